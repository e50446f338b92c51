"""Models as files: equal to the model at sizes that were not traced, with metadata; refusals in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion.api import load_model
from fusion.errors import ConfigError
from fusion.exporting.formats import FORMATS, Pt2
from fusion.exporting.graph import FusionGraph, least_side, trace
from fusion.exporting.run import difference, made_up_pair, read_size
from fusion.layers.borders import reflect, reflected_indices
from fusion.models.moe_fusion.image_routing import apply_all, dispatch_images
from fusion.models.moe_fusion.saliency import _blurred, frequency_tuned_saliency
from fusion.models.tcmoa.cues import likeness
from fusion.moe.dispatch import combine

SMALL_MAE = [
    "model.weights=null", "model.backbone.weights=null", "model.backbone.depth=2", "model.backbone.decoder_depth=2",
    "model.backbone.embed_dim=24", "model.backbone.decoder_embed_dim=24", "model.backbone.num_heads=2",
    "model.backbone.decoder_num_heads=2", "++model.network.window=2", "++model.network.shift=1",
]  # fmt: skip
MODELS = {
    "average": ("average", []),
    "pyramid": ("tcmoa_pyramid", ["model.weights=null", "model.backbone.levels=2", "model.backbone.width=4"]),
    "gifnet": ("gifnet", ["model.network.width=10"]),
    "moe_fusion": ("moe_fusion_saliency", ["model.network.channels=4"]),
    "toar_base": ("toar_base", ["model.weights=null", "model.network.blocks=1", "model.network.channels=2"]),
    "seafusion": ("seafusion", []),
}
Door = Callable[..., tuple[int, str]]


def small(name: str, overrides: list[str]) -> Any:
    """A model whose weights are random everywhere: routers of zeros would choose among equals."""
    model = load_model(name, overrides=overrides, allow_untrained=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


# Through ONNX where two seconds suffice, else through PyTorch's format, whose reading takes as long as the tracing.
DYNAMIC = [
    ("average", "pt2"),
    ("seafusion", "pt2"),
    ("toar_base", "pt2"),
    ("moe_fusion", "onnx"),
    pytest.param("pyramid", "onnx", marks=pytest.mark.slow),
    pytest.param("gifnet", "pt2", marks=pytest.mark.slow),
    pytest.param("gifnet", "onnx", marks=pytest.mark.slow),
    pytest.param("pyramid", "pt2", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "form"), DYNAMIC)
def test_one_graph_fuses_every_size_as_the_model_does(name: str, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    graph = FusionGraph(small(*MODELS[name]), "vif")
    least = least_side(graph.model)
    made = FORMATS[form](trace(graph, None, 1))
    assert difference(made, graph, [(least, least + 2), (least + 3, least)], 1) <= 1e-4


def test_even_places_are_numbers_in_an_exported_file(tmp_path: Path) -> None:
    """Small constants that keep 0 / 0 away may be dropped as zeros when a graph is made simpler."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")

    class Likeness(torch.nn.Module):
        def forward(self, bands: torch.Tensor) -> torch.Tensor:
            return likeness(bands, bands.square(), 1)

    bands = 0.1 * torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    bands[:, :1, 6:] = 0  # where one source is even
    file = tmp_path / "likeness.onnx"
    torch.onnx.export(Likeness(), (bands,), file, dynamo=True, input_names=["bands"])
    made = runtime.InferenceSession(str(file)).run(None, {"bands": bands.numpy()})[0]
    assert not made[..., 8:, :].any()
    torch.testing.assert_close(torch.from_numpy(made), Likeness()(bands))


def test_gifnet_of_one_size() -> None:
    graph = FusionGraph(small(*MODELS["gifnet"]), "mef")
    assert difference(Pt2(trace(graph, (18, 21), 1)), graph, [(18, 21)], 1) <= 1e-5


@pytest.mark.parametrize("policy", ["arbitrary", "pad"])
def test_a_vision_transformer_of_one_size(policy: str) -> None:
    graph = FusionGraph(small("tcmoa_tiny", [*SMALL_MAE, f"model.size_policy={policy}"]), "mff", "luma", {"alpha": 1.5})
    made = Pt2(trace(graph, (37, 50), 2))
    assert difference(made, graph, [(37, 50)], 2) <= 1e-4
    assert made.run(*made_up_pair(37, 50, 2, 0)).shape == (2, 1, 37, 50)


def test_controls_and_task_are_constants_of_the_file() -> None:
    model = small(*MODELS["pyramid"])
    pair = made_up_pair(32, 40, 1, 0)
    plain = Pt2(trace(FusionGraph(model, "vif"), (32, 40), 1)).run(*pair)
    steered = Pt2(trace(FusionGraph(model, "mff", controls={"beta": 0.3}), (32, 40), 1)).run(*pair)
    assert (plain - steered).abs().max() > 0.01


def test_a_coloured_source_keeps_its_colour_on_either_side() -> None:
    graph = FusionGraph(small(*MODELS["toar_base"]), "vif")
    color, gray = made_up_pair(32, 40, 1, 0)
    fused = Pt2(trace(graph, (32, 40), 1)).run(gray, color)
    assert (fused.amax(1) - fused.amin(1)).mean() > 0.1


def test_the_command_writes_a_file_that_says_what_it_is(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "mean.pt2"
    status, text = door("export", "model=average", f"out={file}", "size=24x40", "task=mef")
    assert status == 0 and "largest difference" in text, text
    extra = {"fusion.json": ""}
    program = torch.export.load(file, extra_files=extra)
    about = json.loads(extra["fusion.json"])
    assert about["model"] == "average" and about["task"] == "mef" and about["size"] == "24x40"
    assert len(about["weights_sha256"]) == 64 and "[0, 1]" in about["inputs"]
    a, b = torch.zeros(1, 3, 24, 40), torch.ones(1, 3, 24, 40)
    assert torch.equal(program.module()(a, b), torch.full((1, 3, 24, 40), 0.5))


def test_onnx_holds_its_metadata_and_dynamic_sides(door: Door, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    file = tmp_path / "mean.onnx"
    status, text = door("export", "model=maximum", f"out={file}")
    assert status == 0, text
    about = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert about["model"] == "maximum" and about["color"] == "auto" and about["largest_difference"].startswith("0 at")
    a, b = made_up_pair(70, 91, 1, 0)
    fused = runtime.InferenceSession(str(file)).run(None, {"a": a.numpy(), "b": b.numpy()})[0]
    assert torch.equal(torch.from_numpy(fused), torch.maximum(a, b))


def test_a_file_that_differs_is_not_kept(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pt2, "run", lambda self, a, b: a)
    status, text = door("export", "model=average", f"out={tmp_path / 'x.pt2'}", "size=24x40")
    assert status == 1 and "differs from the model by" in text and "tolerance=0.0001" in text
    assert not any(tmp_path.iterdir())


def test_a_file_that_does_not_run_is_not_kept(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, a: Any, b: Any) -> Any:
        raise RuntimeError("Runtime assertion failed\nmore")

    monkeypatch.setattr(Pt2, "run", refuse)
    status, text = door("export", "model=average", f"out={tmp_path / 'x.pt2'}", "size=24x40")
    assert status == 1 and "does not run at 24x40 (Runtime assertion failed)" in text and "Traceback" not in text
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["size=480"], "size=480: expected dynamic, or height and width"),
        (["size=8x480"], "expected sides from 16"),
        (["out=x.pth"], "out=x.pth: expected a name that ends in .onnx or .pt2"),
        (["out=x.pt2", "format=onnx"], "out=x.pt2: expected a name that ends in .onnx"),
        (["format=torchscript"], "format=torchscript: expected one of onnx, pt2"),
        (["out=x.pt2", "opset=18", "size=24x24"], "opset=18: of ONNX"),
        (["out=x.pt2", "color=pink"], "color=pink: expected one of"),
        (["out=x.pt2", "control.alpha=2"], "control.alpha: Average has no such control"),
        (["out=x.pt2", "batch=0"], "batch=0: expected"),
    ],
)
def test_mistakes_are_one_line(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, text = door("export", "model=average", *arguments)
    assert status == 2 and expected in text and "Traceback" not in text, text
    assert not any(tmp_path.iterdir())


def test_a_missing_package_is_named(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name in ("onnx", "onnxscript", "onnxruntime"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    status, text = door("export", "model=average", f"out={tmp_path / 'x.onnx'}")
    assert status == 2 and "format=onnx needs onnx, onnxscript, onnxruntime: pip install 'image-fusion[onnx]'" in text


def test_an_untrained_model_is_refused(door: Door, tmp_path: Path) -> None:
    status, text = door("export", "model=seafusion", f"out={tmp_path / 'x.pt2'}")
    assert status == 2 and "no trained weights" in text


def test_what_no_graph_can_do_is_said() -> None:
    graph = FusionGraph(small(*MODELS["gifnet"]), "pansharpening")
    with pytest.raises(ConfigError, match="task=pansharpening"):
        trace(graph, (32, 32), 1)


def test_all_experts_with_their_gates_are_what_the_chosen_ones_make() -> None:
    generator = torch.Generator().manual_seed(0)
    experts = [torch.nn.Conv2d(2, 3, 3, padding=1) for _ in range(4)]
    inputs = [torch.rand(3, 2, 8, 9, generator=generator)] * 4
    weights = torch.tensor([[0.3, 0.7, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
    for mix in ("log_sum_exp", "linear"):
        with torch.no_grad():
            chosen, dense = (
                dispatch_images(experts, inputs, weights, mix),
                combine(apply_all(experts, inputs), weights, mix),
            )
        torch.testing.assert_close(dense, chosen, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 70), (301, 260)])
def test_blurring_by_matrices_is_blurring(size: tuple[int, int]) -> None:
    luma = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    expected = frequency_tuned_saliency(luma, 0.01, 1.0)
    distance = (_blurred(luma, 0.01) - luma.mean((2, 3), keepdim=True)).abs().clamp_max(1)
    torch.testing.assert_close(distance, expected, rtol=0, atol=1e-5)


def test_reflection_by_indices_is_padding() -> None:
    x = torch.rand(1, 2, 9, 11)
    rows = reflected_indices(9, 9 + 3 + 4, x.device, before=3)
    columns = reflected_indices(11, 11 + 2 + 5, x.device, before=2)
    picked = x.index_select(-2, rows).index_select(-1, columns)
    assert torch.equal(picked, reflect(x, left=2, right=5, top=3, bottom=4))


def test_sizes_are_read_as_they_are_written() -> None:
    assert [read_size(text) for text in ("dynamic", "480x640", [480, 640])] == [None, (480, 640), (480, 640)]
