"""Loss terms against values and gradients of the released TC-MoA code, and on pictures that break formulas."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fusion import losses as L
from fusion.metrics import score

GOLDEN = torch.load(Path(__file__).parents[1] / "data" / "tcmoa" / "losses.pt", weights_only=True)
A, B, FUSED = GOLDEN["a"], GOLDEN["b"], GOLDEN["fused"]

TERMS = {
    "MaxGradLoss(3)": lambda f: 3 * L.max_gradient_l1(f, A, B),
    "MaxGradLoss(1,isSignGrad=False)": lambda f: L.max_gradient_l1(f, A, B, signed=False),
    "PixelLoss(3)": lambda f: 3 * L.mean_pixel_l1(f, A, B),
    "MaxPixelLoss(1)": lambda f: L.max_pixel_l1(f, A, B),
    "SSIM(f,a)": lambda f: L.ssim(f, A),
    "MEF_MSSSIM(is_lum)_batchstack": lambda f: L.mef_ssim(f, A, B),
    "MEF_MSSSIM(is_lum)_b1": lambda f: L.mef_ssim(f[:1], A[:1], B[:1], batch="per_sample"),
    "MEF_MSSSIM(no_lum)_b1": lambda f: L.mef_ssim(f[:1], A[:1], B[:1], luminance=False),
}


@pytest.mark.parametrize("name", TERMS)
def test_value_and_gradient(name):
    fused = FUSED.clone().requires_grad_()
    value = TERMS[name](fused)
    (gradient,) = torch.autograd.grad(value, fused)
    expected = GOLDEN["out"][name]
    assert value.item() == pytest.approx(expected["value"].item(), rel=1e-5)
    thinned = gradient[:, :, ::3, ::3]
    assert (thinned - expected["grad_fused"]).abs().max() <= 1e-5 * expected["grad_fused"].abs().max()


def test_maps():
    out = GOLDEN["out"]
    torch.testing.assert_close(L.sharper_patches(A, B), out["MaxGradTokenSelect"], atol=0, rtol=0)
    torch.testing.assert_close(L.color_gradient(A), out["SobelxyRGB_signed(a)"], atol=5e-6, rtol=0)
    torch.testing.assert_close(L.sobel_magnitude(A), out["Sobelxy_abs(gray a)"], atol=5e-6, rtol=0)


def test_patches_of_a_picture_that_is_no_multiple_of_the_patch():
    sharp = torch.rand(1, 3, 37, 50)
    flat = torch.zeros_like(sharp)  # any other gray has an edge of its own at the zero-padded border
    assert torch.equal(L.sharper_patches(flat, sharp), sharp)
    assert torch.equal(L.sharper_patches(sharp, flat), sharp)


def test_batched_mef_ssim_is_the_mean_of_its_samples():
    each = torch.stack([L.mef_ssim(FUSED[i : i + 1], A[i : i + 1], B[i : i + 1]) for i in range(2)]).mean()
    assert L.mef_ssim(FUSED, A, B, batch="per_sample").item() == pytest.approx(each.item(), rel=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_pictures_give_finite_values_and_gradients(level):
    flat = torch.full((2, 3, 32, 32), level)
    terms = (L.max_gradient_l1, L.max_pixel_l1, L.mean_pixel_l1, L.mef_ssim, L.edge_preservation)
    for term in (*terms, lambda f, a, b: L.ssim(f, a)):
        fused = flat.clone().requires_grad_()
        value = term(fused, flat, flat)
        (gradient,) = torch.autograd.grad(value, fused)
        assert value.isfinite() and gradient.isfinite().all()


def test_identical_pictures_are_perfect():
    assert L.ssim(A, A).item() == pytest.approx(1.0, abs=1e-6)
    assert L.max_gradient_l1(A, A, A).item() == 0
    assert L.max_pixel_l1(A, A, A).item() == 0


def test_unknown_mef_ssim_batch_is_named():
    with pytest.raises(ValueError, match="stacked, per_sample"):
        L.mef_ssim(FUSED, A, B, batch="tall")


def test_edge_preservation_is_the_metric_and_leads_from_the_average_to_the_sharper_source():
    sharp = A[:1]
    blurred = F.avg_pool2d(sharp, 9, 1, 4, count_include_pad=False)
    fused = ((sharp + blurred) / 2).requires_grad_()
    value = L.edge_preservation(fused, sharp, blurred)
    assert value.item() == pytest.approx(score(sharp[0], blurred[0], fused[0].detach(), "qabf")["qabf"], rel=1e-4)
    (gradient,) = torch.autograd.grad(value, fused)
    assert (gradient * (sharp - blurred)).sum() > 0
    nearer = fused.detach() + 0.1 * (sharp - blurred)
    assert L.edge_preservation(nearer, sharp, blurred) > value
