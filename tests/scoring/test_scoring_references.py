"""Full-reference scores: against public packages, and in the tables of data sets of which some have references."""

import csv

import numpy as np
import pytest
import torch

from fusion.metrics.full_reference import full_reference
from fusion.models.baselines import Average
from fusion.models.scores import ScoreTable
from fusion.scoring.evaluation import Column, write_tables


def test_scores_are_those_of_public_packages():
    metrics = pytest.importorskip("skimage.metrics")
    generator = torch.Generator().manual_seed(0)
    reference = (torch.rand(2, 3, 40, 52, generator=generator) * 255).round() / 255
    fused = ((reference + 0.1 * torch.randn(reference.shape, generator=generator)).clamp(0, 1) * 255).round() / 255
    found = full_reference(fused, reference)
    for index in range(2):
        one, two = (image[index].permute(1, 2, 0).numpy().astype(np.float64) for image in (fused, reference))
        assert found["reference_psnr"][index] == pytest.approx(
            metrics.peak_signal_noise_ratio(two, one, data_range=1), abs=1e-3
        )
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        public = metrics.structural_similarity(two, one, channel_axis=2, **options)
        assert found["reference_ssim"][index] == pytest.approx(public, abs=2e-3)  # skimage leaves the border out
    same = full_reference(reference, reference)
    assert same["reference_psnr"].isinf().all() and same["reference_ssim"].tolist() == pytest.approx([1, 1])
    grey = full_reference(reference[:, :1], reference[:, :1].expand(-1, 3, -1, -1))
    assert grey["reference_psnr"].isinf().all()
    small = full_reference(reference[..., :9, :9], reference[..., :9, :9])
    assert small["reference_ssim"].isnan().all() and small["reference_psnr"].isinf().all()


def test_only_pairs_with_references_are_scored_against_them(tmp_path):
    a, b = torch.rand(1, 3, 24, 30), torch.rand(1, 3, 24, 30)
    with_truth = {"a": a, "b": b, "task": "mff", "name": ["0"], "dataset": ["RealMFF"], "reference": (a + b) / 2}
    without = {"a": a, "b": b, "task": "mff", "name": ["0"], "dataset": ["MFIF"]}
    model = Average(eval_metrics=())
    model.test_step(with_truth, 0)
    assert "reference_psnr" not in model._scores.rows()[0]  # in training nobody asks
    model = Average(eval_metrics=("en",))
    model.eval_references = True
    model.test_step(with_truth, 0)
    model.test_step(without, 1)
    rows = model._scores.rows()
    assert rows[0]["reference_psnr"] > 40 and "reference_psnr" not in rows[1]
    means = ScoreTable.means(rows)
    assert means["mff/reference_psnr"] == rows[0]["reference_psnr"] and "en" in means
    write_tables([{"method": "average"} | row for row in rows], tmp_path, [Column("en", "en ↑", 2)])
    table = {row["dataset"]: row for row in csv.DictReader((tmp_path / "summary.csv").open())}
    assert float(table["RealMFF"]["reference_psnr"]) > 40 and table["MFIF"]["reference_psnr"] == ""
    assert "reference_ssim ↑" in (tmp_path / "summary.md").read_text()
    write_tables([{"method": "average"} | rows[1]], tmp_path, [Column("en", "en ↑", 2)])
    assert "reference" not in (tmp_path / "summary.md").read_text()
