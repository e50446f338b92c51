"""Every model forward and backward on the GPU, equal to the CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusion import load_model
from fusion.models.base import FusionModel

QUIET = ["model.router.noise=false"]
NO_WEIGHTS = ["model.weights=null", "model.backbone.weights=null"]
SETTINGS: dict[str, tuple[str, list[str], str]] = {
    "tcmoa_base": ("tcmoa_base", ["model.backbone.weights=null", *QUIET], "vif"),
    "tcmoa_tiny": ("tcmoa_tiny", QUIET, "mef"),
    "tcmoa_tiny, sparse": ("tcmoa_tiny", [*NO_WEIGHTS, *QUIET, "model/adapter=mixture", "model.adapter.dispatch=sparse"], "mff"),
    "tcmoa_tiny, adaptformer": ("tcmoa_tiny", [*NO_WEIGHTS, *QUIET, "model/adapter=adaptformer"], "vif"),
    "tcmoa_tiny, no adapter": ("tcmoa_tiny", [*NO_WEIGHTS, *QUIET, "model/adapter=none"], "vif"),
    "tcmoa_tiny, recomputed": ("tcmoa_tiny", [*QUIET, "model.network.gradient_checkpointing=true"], "mff"),
    "tcmoa_tiny, MLPs recomputed": ("tcmoa_tiny", [*QUIET, "model.network.gradient_checkpointing=mlp"], "mff"),
    "tcmoa_pyramid": ("tcmoa_pyramid", QUIET, "mef"),
    "gifnet": ("gifnet", ["model.network.init=kaiming"], "mff"),
    "gifnet, infrared": ("gifnet", ["model.network.init=kaiming", "model/loss/weighting=image_gradient"], "vif"),
    "moe_fusion": ("moe_fusion", [*QUIET, "model/attention=none", "model.network.channels=8"], "vif"),
    "toar_base": ("toar_base", [], "vif"),
    "toar": ("toar", [], "vif"),
    "segformer": ("segformer", ["model.images=a", "model/segmenter@model.network=small", "model.network.dropout=0"], "vif"),
    "ctdnet": ("ctdnet", ["model.images=a", "model.sizes=[64]", "model.size=64", "model.network.weights=null"], "vif"),
}  # fmt: skip


def build(name: str, overrides: list[str]) -> FusionModel:
    torch.manual_seed(0)
    model = load_model(name, overrides=overrides, allow_untrained=True)
    generator = torch.Generator().manual_seed(1)
    for key, parameter in model.named_parameters():  # what starts from zero is to have a part in the result
        if "w_gate" in key or ".last.weight" in key or "gain_" in key:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def batch(task: str, side: int, device: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    a, b, reference = (
        nn.functional.interpolate(torch.rand(2, 3, 9, 9, generator=generator), (side, side), mode="bicubic").clamp(0, 1)
        for _ in range(3)
    )
    mask = (torch.rand(2, side, side, generator=generator) > 0.5).long()
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 40.0]])] * 2
    found = {"a": a, "b": b, "reference": reference, "mask": mask}
    return {key: value.to(device) for key, value in found.items()} | {
        "task": task, "name": ["x", "y"], "boxes": [box.to(device) for box in boxes],
        "labels": [torch.zeros(1, dtype=torch.int64, device=device)] * 2, "dataset": ["mini"] * 2,
    }  # fmt: skip


def learn(model: FusionModel, given: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and terms, and gradients, of one training step."""
    model.train()
    for module in model.modules():  # batch statistics of two pictures magnify rounding
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    model.zero_grad()
    controls = {"instruction": "detection"} if type(model).__name__ == "TOAR" else {}
    output = model(given["a"], given["b"], given["task"], **controls)
    instructed = bool(controls)  # then the losses are those of the networks of other tasks
    terms = {"square": output.fused.square().mean()} if instructed else model.losses(output, given)
    torch.stack(list(terms.values())).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"fused": output.fused, **terms}, found


def assert_near(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Equal but for rounding, measured against the largest value of each tensor."""
    assert got.keys() == expected.keys() and expected
    for name, value in expected.items():
        error = (got[name].detach().cpu() - value.detach()).abs().max()
        scale = value.detach().abs().max().clamp_min(1e-6)
        assert error <= tolerance * scale, f"{name}: off by {error:.3g}, its values reach {scale:.3g}"


@pytest.mark.parametrize("name", SETTINGS)
def test_forward_and_backward_equal_the_cpu(name: str, device: str) -> None:
    model_name, overrides, task = SETTINGS[name]
    model = build(model_name, overrides)
    side = {"tcmoa_base": 112, "tcmoa_tiny": 112}.get(model_name, 64)
    expected, wanted = learn(model, batch(task, side, "cpu"))
    wanted = {key: value.clone() for key, value in wanted.items()}
    got, gradients = learn(model.to(device), batch(task, side, device))
    assert_near(got, expected, 1e-3)
    assert_near(gradients, wanted, 1e-2)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("name", ["tcmoa_pyramid", "tcmoa_tiny", "gifnet", "gifnet, infrared", "moe_fusion", "toar"])
def test_fusing_any_size_equals_the_cpu(name: str, tiled: bool, device: str) -> None:
    model_name, overrides, task = SETTINGS[name]
    if tiled:  # GIFNet's statistics pass through its tiles; TC-MoA's tiles are windows of their own
        small = {"gifnet": ["model.whole_pixels=4096", "model.tile=64"], "tcmoa_tiny": ["model.size_policy=tile448"]}
        overrides = [*overrides, *small.get(model_name, [])]
    model = build(model_name, overrides).eval()
    a, b = (batch(task, 118, "cpu")[key][..., :101] for key in ("a", "b"))
    expected = model.fuse(a, b, task).fused
    model = model.to(device)
    for _ in range(2):  # the second time with what was made ready the first time
        fused = model.fuse(a.to(device), b.to(device), task).fused.cpu()
        torch.testing.assert_close(fused, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["tcmoa_base", "tcmoa_tiny", "gifnet", "moe_fusion", "toar_base"])
def test_fusing_in_a_short_type_is_near(name: str, dtype: torch.dtype, device: str) -> None:
    model_name, overrides, task = SETTINGS[name]
    model = build(model_name, overrides).eval()
    a, b = (batch(task, 112, "cpu")[key] for key in ("a", "b"))
    expected = model.fuse(a, b, task).fused
    model = model.to(device)
    with torch.autocast(torch.device(device).type, dtype):
        fused = model.fuse(a.to(device), b.to(device), task).fused.cpu()
    assert (fused - expected).square().mean().sqrt() < 0.02


def test_masked_autoencoding_equals_the_cpu(device: str) -> None:
    def step(at: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        torch.manual_seed(0)
        model = load_model("mae", overrides=["model.max_zoom=1"]).to(at)
        images = batch("vif", model.example_size[0], at)["a"]
        predicted, _ = model.network(
            images, 0.0
        )  # hides nothing: the order of the patches is random but without influence
        predicted.square().mean().backward()
        return {"predicted": predicted}, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    (expected, wanted), (got, gradients) = step("cpu"), step(device)
    assert_near(got, expected, 1e-3)
    shared = {name: value for name, value in wanted.items() if value.abs().max() > 0}
    assert_near({name: gradients[name] for name in shared}, shared, 1e-2)


def test_a_detector_sees_the_same_and_learns(device: str) -> None:
    overrides = [
        "model.detector.backbone=resnet18", "model.detector.weights=null", "model.detector.frozen_stages=0",
        "model.detector.channels=32", "model.detector.hidden=64", "model.detector.anchors=[8,16,32,64,128]",
        "model.detector.proposals=[200,100]",
    ]  # fmt: skip
    torch.manual_seed(0)
    model = load_model("faster_rcnn", overrides=overrides)
    found: list[Any] = []
    for at in ("cpu", device):
        model = model.to(at).eval()
        features = model.network.features(batch("vif", 64, at)["a"])
        found.append({str(key): value for key, value in _items(features)})
    assert_near(found[1], {key: value.cpu() for key, value in found[0].items()}, 1e-3)
    model.train()
    given = batch("vif", 64, device)
    losses = model.image_losses(given["a"], given)
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.isfinite() for value in losses.values())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.network.parameters())
    model.eval()
    with torch.no_grad():
        for picture in model.detect(given["a"]):
            assert picture["boxes"].device.type == torch.device(device).type


def _items(features: Any) -> list[tuple[Any, Tensor]]:
    return list(features.items()) if isinstance(features, dict) else list(enumerate(features))


@pytest.mark.everywhere
@pytest.mark.parametrize("adapter", ["mixture", "adaptformer"])
def test_frozen_tokens_before_a_trained_bias_do_not_stop_the_backward_pass(adapter: str, device: str) -> None:
    model = build("tcmoa_tiny", [*NO_WEIGHTS, f"model/adapter={adapter}"]).to(device).train()
    images = torch.rand(2, 1, 3, 112, 112, device=device)
    for dtype in (None, torch.bfloat16):
        model.zero_grad()
        with torch.autocast(torch.device(device).type, dtype or torch.bfloat16, enabled=dtype is not None):
            model(*images, "vif").fused.sum().backward()
        tables = [p for n, p in model.named_parameters() if "encoder.positions" in n]
        assert tables and all(table.grad is not None and table.grad.isfinite().all() for table in tables)


@pytest.mark.parametrize("mode", ["reduce-overhead", pytest.param("default", marks=pytest.mark.slow)])
def test_a_compiled_network_fuses_the_same_for_every_task(mode: str, device: str) -> None:
    model = build("tcmoa_tiny", []).to(device).eval()
    a, b = torch.rand(2, 1, 3, 112, 112, device=device)
    expected = {task: model.fuse(a, b, task).fused for task in model.tasks}
    model.compile_network(mode)
    for _ in range(3):  # warm-up, recording, replay
        got = {task: model.fuse(a, b, task).fused for task in model.tasks}
    for task, fused in expected.items():
        torch.testing.assert_close(got[task], fused, atol=1e-3, rtol=0)


SYNCING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero")


class HostReads(torch.utils._python_dispatch.TorchDispatchMode):
    """Names of operations that would make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]  # type: ignore[attr-defined]
        if name in SYNCING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.everywhere
@pytest.mark.parametrize("task", ["vif", "mef", "mff"])
def test_a_training_step_of_tcmoa_never_waits_for_the_device(task: str, device: str) -> None:
    model = build("tcmoa_tiny", NO_WEIGHTS).to(device).train()
    given = batch(task, 112, device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    with HostReads() as reads:
        terms = model.losses(model(given["a"], given["b"], task), given)
        torch.stack(list(terms.values())).sum().backward()
    assert reads.found == []
    optimizer.step()
    if device.startswith("cuda"):
        torch.cuda.set_sync_debug_mode("error")
        try:
            terms = model.losses(model(given["a"], given["b"], task), given)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
