"""Fusing, scoring and looking into models on the GPU, equal to the CPU."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fusion.data.files.image import read_image
from fusion.errors import FusionError
from fusion.metrics import compute, info, names

Command = Callable[..., tuple[int, str]]
PLUGIN = Path(__file__).parents[1] / "infra" / "plugin" / "conf"


@pytest.mark.parametrize("model", ["tcmoa_tiny", "toar_base"])  # with weights in the package
def test_predicted_pictures_are_the_cpu_s(
    model: str, device: str, command: Command, pictures: Path, tmp_path: Path
) -> None:
    a, b = pictures / "val/a", pictures / "val/b"
    for at, folder in (("cpu", "expected"), (device, "got")):
        status, said = command(
            "predict", f"model={model}", f"a={a}", f"b={b}", f"out={tmp_path / folder}", f"device={at}"
        )
        assert status == 0, said
    for path in (tmp_path / "expected").iterdir():
        expected, got = (read_image(file).pixels.int() for file in (path, tmp_path / "got" / path.name))
        assert (expected - got).abs().max() <= 1


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def assert_same_numbers(got: list[dict[str, str]], expected: list[dict[str, str]], tolerance: float) -> None:
    assert len(got) == len(expected) > 0
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            try:
                number = float(value)
            except ValueError:
                assert ours[key] == value
            else:
                assert float(ours[key]) == pytest.approx(number, rel=tolerance, abs=tolerance), key


def test_evaluation_scores_what_the_cpu_scores(device: str, command: Command, pictures: Path, tmp_path: Path) -> None:
    for at in ("cpu", "gpu"):
        accelerator = "gpu" if at == "gpu" and device.startswith("cuda") else "cpu"
        status, said = command(
            "evaluate", "--config-dir", str(PLUGIN), "model=tcmoa_tiny", "data=miniature", f"paths.data_dir={pictures}",
            f"trainer={'gpu' if at == 'gpu' else 'cpu'}", f"trainer.accelerator={accelerator}", "data.num_workers=0",
            "++data.prefetch_factor=null", "++data.pin_memory=null", "evaluation.metrics=[psnr,ssim,qabf,mi]",
            f"run_dir={tmp_path / at}",
        )  # fmt: skip
        assert status == 0, said
    tables = sorted(path.name for path in (tmp_path / "cpu").glob("*.csv"))
    assert tables
    for name in tables:
        assert_same_numbers(rows(tmp_path / "gpu" / name), rows(tmp_path / "cpu" / name), 5e-3)


def test_score_gives_the_cpu_s_numbers(device: str, command: Command, pictures: Path, tmp_path: Path) -> None:
    for at, name in (("cpu", "cpu"), (device, "gpu")):
        status, said = command(
            "score", f"a={pictures / 'val/a'}", f"b={pictures / 'val/b'}", f"fused={pictures / 'val/a'}", "suite=tcmoa_vif",
            f"device={at}", "plot=null", f"out={tmp_path / name / 'scores.csv'}", "workers=1",
        )  # fmt: skip
        assert status == 0, said
    assert_same_numbers(rows(tmp_path / "gpu/scores.csv"), rows(tmp_path / "cpu/scores.csv"), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", names())
def test_every_metric_is_the_cpu_s(name: str, dtype: torch.dtype, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (
        F.interpolate(torch.rand(2, 3, 20, 24, generator=generator), (160, 192), mode="bicubic").clamp(0, 1)
        for _ in range(2)
    )
    fused = (a + b) / 2
    for convention in info(name).variants:
        key = [f"{name}@{convention}"]
        try:
            expected = compute(a, b, fused, key, dtype=dtype)
        except FusionError as refused:  # a metric may refuse float32, on both then
            with pytest.raises(type(refused)):
                compute(a.to(device), b.to(device), fused.to(device), key, dtype=dtype)
            continue
        got = compute(a.to(device), b.to(device), fused.to(device), key, dtype=dtype)
        for label, value in expected.items():
            tolerance = 1e-6 if dtype is torch.float64 else 2e-3
            torch.testing.assert_close(got[label].cpu().double(), value.double(), atol=tolerance, rtol=tolerance)


KINDS = {
    "routing": ("tcmoa_tiny", []),
    "prompts": ("tcmoa_tiny", ["prompts.alphas=[1,2]", "prompts.betas=[0]"]),
    "bias": ("tcmoa_tiny", []),
    "experts": ("tcmoa_tiny", []),
    "expert_maps": ("moe_fusion", ["model/attention=none", "model.network.channels=4"]),
    "features": ("gifnet", []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_looked_into(kind: str, device: str, command: Command, pictures: Path, tmp_path: Path) -> None:
    model, more = KINDS[kind]
    status, said = command(
        "analyze", f"kind={kind}", f"model={model}", "data=folders", f"a={pictures / 'val/a'}", f"b={pictures / 'val/b'}",
        "task=vif", f"device={device}", "pairs_per_task=1", f"run_dir={tmp_path / 'run'}", *more,
    )  # fmt: skip
    assert status == 0, said
    assert any((tmp_path / "run").rglob("*.png")) or any((tmp_path / "run").rglob("*.csv"))


@pytest.mark.everywhere
def test_benchmark_reports_time_and_memory(device: str, command: Command, tmp_path: Path) -> None:
    status, said = command(
        "benchmark", "model=tcmoa_tiny", "size=[112,112]", "warmup=1", "repeats=2", f"device={device}", "precision=bf16",
        f"run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert status == 0, said
    report = json.loads((tmp_path / "run/benchmark.json").read_text())
    assert report["cost"]["batch_seconds"] > 0 and report["cost"]["peak_bytes"] > 0
    assert report["cost"]["memory_of"] == ("device" if device.startswith("cuda") else "process")
