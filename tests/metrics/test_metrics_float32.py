"""Values and gradients in float32: near float64 on photographs and on hard pictures, for every metric and convention."""

import pytest
import torch
from skimage import data
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from fusion.errors import ConfigError
from fusion.metrics import CONVENTIONS, compute, info, metric, names
from fusion.metrics.registry import _REGISTRY
from fusion.metrics.triple import Triple

DIFFERENTIABLE = [name for name in names("exact") if info(name).differentiable]


def photograph(name: str) -> Tensor:
    """`(1, 3, 80, 96)` float32 in [0, 1]."""
    pixels = torch.from_numpy(getattr(data, name)()).float() / 255
    pixels = pixels.expand(3, -1, -1) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return torch.nn.functional.interpolate(pixels[None], (80, 96), mode="area")


def in_steps(*images: Tensor) -> tuple[Tensor, ...]:
    """As image files hold them: clamped, in steps of 1/255."""
    return tuple((image.clamp(0, 1) * 255).round() / 255 for image in images)


def pictures() -> dict[str, tuple[Tensor, ...]]:
    """Triples a, b, fused of photographs, and of what float32 is worst at."""
    found, half = {}, 48
    for name in ("astronaut", "camera", "coffee"):
        sharp = photograph(name)
        blurred = gaussian_blur(sharp, [9, 9], [2.0, 2.0])
        a = torch.cat((blurred[..., :half], sharp[..., half:]), -1)
        b = torch.cat((sharp[..., :half], blurred[..., half:]), -1)
        found[f"focus {name}"] = in_steps(a, b, 0.9 * sharp + 0.05 * (a + b))
        over, under = in_steps(2.5 * sharp, 0.25 * sharp)
        found[f"exposure {name}"] = in_steps(over, under, (over + under) / 2)
    m, c, none = photograph("astronaut"), photograph("camera"), torch.zeros(1, 3, 80, 96)
    found["infrared"] = in_steps(m, c, 0.5 * m + 0.5 * c)
    found["real-valued"] = (0.9 * m + 0.001, 0.97 * c, 0.45 * m + 0.5 * c)
    found["dark"] = in_steps(0.04 * m, 0.04 * c, 0.02 * m + 0.02 * c)
    found["bright"] = in_steps(1 - 0.04 * m, 1 - 0.04 * c, 1 - 0.02 * m - 0.02 * c)
    found["saturated"] = in_steps(4 * m, 4 * c - 1.5, 2 * m + 2 * c - 0.75)
    beside, above = m.clone(), c.clone()
    beside[..., :half], above[..., :36, :] = 0.4, 0.9
    found["partly flat"] = in_steps(beside, above, (beside + above) / 2)
    found["flat fused"] = in_steps(m, c, none + 0.5)
    found["flat b"] = in_steps(m, none + 0.7, 0.5 * m + 0.35)
    found["flat"] = in_steps(none + 0.3, none + 0.7, none + 0.5)
    found["flat, real-valued"] = (none + 0.123456, none + 0.7654, none + 0.333333)
    found["black"] = (none, none, none)
    found["white"] = (none + 1, none + 1, none + 1)
    found["identical"] = in_steps(m, m, m)
    found["fused is a"] = in_steps(m, c, m)
    return found


PICTURES = pictures()


def batch(rows: slice = slice(None), columns: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
    a, b, fused = (
        torch.cat(images)[..., rows, columns].contiguous() for images in zip(*PICTURES.values(), strict=True)
    )
    return a, b, fused


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_float32_is_within_a_thousandth_of_float64(convention):
    images = batch()
    exact = compute(*images, names(convention), convention)
    single = compute(*images, names(convention), convention, dtype=torch.float32)
    wrong = []
    for name, values in single.items():
        assert values.dtype == torch.float32
        bounded = None not in info(name).bounds
        for picture, got, want in zip(PICTURES, values.tolist(), exact[name].tolist(), strict=True):
            near = 1e-3 if bounded else 1e-3 * max(abs(want), 1e-3)
            if got != want and not abs(got - want) <= near:
                wrong.append(f"{name}, {picture}: {got} instead of {want}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_finite_on_photographs_and_on_hard_pictures(name, dtype):
    a, b, fused = (image.requires_grad_() for image in batch(slice(30, 54), slice(50, 78)))
    compute(a, b, fused, [name], dtype=dtype)[name].sum().backward()
    for image in (a, b, fused):
        if image.grad is not None:  # some metrics look at the fused image alone
            wrong = [p for p, grad in zip(PICTURES, image.grad, strict=True) if not grad.isfinite().all()]
            assert not wrong
    assert fused.grad is not None and fused.grad.abs().sum() > 0


def test_a_metric_that_needs_float64_gets_it():
    seen = []

    @metric("in_double", symbol="D", title="a test's", source="this test", double=True)
    def in_double(t: Triple) -> Tensor:
        seen.append(t.fused.dtype)
        return t.fused.mean((-2, -1))

    try:
        images = batch(slice(0, 16), slice(0, 16))
        assert compute(*images, ["in_double"], dtype=torch.float32)["in_double"].dtype == torch.float32
    finally:
        del _REGISTRY["in_double"]
    assert seen == [torch.float64]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_other_types_are_refused(dtype):
    with pytest.raises(ConfigError, match=r"torch\.float64 or torch\.float32"):
        compute(*batch(slice(0, 16), slice(0, 16)), ["mse"], dtype=dtype)
