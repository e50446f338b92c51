"""Scores of saliency and segmentation equal those of public packages."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from fusion.downstream.saliency import SaliencyScores
from fusion.downstream.segmentation import SegmentationScores
from fusion.errors import DataError

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE.parent / "data/downstream/golden.json").read_text())
_spec = importlib.util.spec_from_file_location("downstream_maps", HERE / "downstream_maps.py")
maps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(maps)
SEEDED, PHOTOGRAPHS = maps.saliency_maps(), maps.photograph_saliency()
SALIENCY = SEEDED | PHOTOGRAPHS


def add(scores: SaliencyScores, name: str, as_float: bool = False) -> None:
    prediction, truth = (torch.from_numpy(array)[None] for array in SALIENCY[name])
    scores.update(prediction.float() / 255 if as_float else prediction, truth > 128)


@pytest.mark.parametrize("name", SALIENCY)
def test_saliency_scores_of_one_map_are_the_public_ones(name):
    scores = SaliencyScores()
    add(scores, name)
    assert scores.compute() == pytest.approx(GOLDEN["saliency"][name], abs=1e-6)


@pytest.mark.parametrize(("of", "names"), [("all", SEEDED), ("photographs", PHOTOGRAPHS)])
def test_saliency_scores_of_many_maps_are_the_public_ones(of, names):
    scores = SaliencyScores()
    for name in names:
        add(scores, name, as_float=True)
    assert scores.compute() == pytest.approx(GOLDEN["saliency"][of], abs=1e-6)


def test_saliency_scores_of_a_batch_are_those_of_its_images():
    generator = torch.Generator().manual_seed(0)
    images, truth = torch.rand(3, 20, 20, generator=generator), torch.rand(3, 20, 20, generator=generator) > 0.5
    together, one_by_one = SaliencyScores(), SaliencyScores()
    together.add(images, {"mask": truth.long(), "name": ["0", "1", "2"]})
    for image, mask in zip(images, truth, strict=True):
        one_by_one.update(image[None], mask[None])
    assert together.compute() == pytest.approx(one_by_one.compute(), abs=1e-12)


@pytest.mark.parametrize("of", ["segmentation", "segmentation_photographs"])
def test_segmentation_scores_are_the_public_ones(of):
    scores = SegmentationScores(["w", "x", "y", "z", "absent"])
    for found, truth in maps.class_maps() if of == "segmentation" else maps.photograph_classes():
        scores.update(torch.from_numpy(found)[None], torch.from_numpy(truth)[None])
    values = scores.compute()
    golden = GOLDEN[of]
    assert [values[name] for name in "wxyz"] == pytest.approx(golden["iou"], abs=1e-6)
    assert values["absent"] is None, "a class that is neither there nor found does not count"
    assert values["mIoU"] == pytest.approx(golden["mIoU"], abs=1e-6)
    assert values["pixel_accuracy"] == pytest.approx(golden["pixel_accuracy"], abs=1e-6)


def test_scores_refuse_what_they_cannot_score():
    scores = SegmentationScores(["x", "y"])
    with pytest.raises(DataError, match="class 7 for 2 classes"):
        scores.update(torch.zeros(1, 4, 4).long(), torch.full((1, 4, 4), 7))
    scores.update(torch.zeros(1, 4, 4).long(), torch.full((1, 4, 4), 255))
    with pytest.raises(DataError, match="no pixel has a class"):
        scores.compute()
    with pytest.raises(DataError, match="no label maps"):
        SaliencyScores().add(torch.zeros(1, 4, 4), {"name": ["lonely"]})
