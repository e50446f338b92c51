"""What must hold of every metric: batches, precisions, gradients, inputs, and agreement with independent code."""

import numpy as np
import pytest
import scipy.fft
import torch
import torchmetrics.functional.image as peers
from skimage.metrics import structural_similarity

from fusion.errors import ConfigError, DataError
from fusion.metrics import CONVENTIONS, MetricKey, Suite, compute, info, names, score
from fusion.metrics.feature_maps import dct_map
from fusion.metrics.filters import correlate1d, correlate_in_windows

DIFFERENTIABLE = [name for name in names("exact") if info(name).differentiable]


def images(count: int, height: int, width: int, channels: int = 3, seed: int = 0) -> list[torch.Tensor]:
    """Smooth random sources in 8-bit steps and a fused image between them."""
    generator = torch.Generator().manual_seed(seed)

    def smooth() -> torch.Tensor:
        coarse = torch.rand(count, channels, height // 4 + 1, width // 4 + 1, generator=generator, dtype=torch.float64)
        fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
        return (fine + 0.1 * torch.rand(fine.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)

    a, b = smooth(), smooth()
    return [(x * 255).round() / 255 for x in (a, b, (0.5 * a + 0.4 * b + 0.1 * smooth()).clamp(0, 1))]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_batch_gives_what_its_images_give_alone(convention):
    batch = images(8, 48, 53)
    together = compute(*batch, names(convention), convention)
    for i in (0, 3, 7):
        alone = score(*(x[i] for x in batch), names(convention), convention)
        for name, value in alone.items():
            assert together[name].shape == (8,)
            assert together[name][i].item() == pytest.approx(value, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_the_fused_image(name):
    generator = torch.Generator().manual_seed(1)
    size = 23 if name == "ms_ssim" else 14  # at 14 pixels only one of its scales is left
    a, b, noise = (torch.rand(1, 1, size, size, generator=generator, dtype=torch.float64) for _ in range(3))
    fused = (0.45 * a + 0.45 * b + 0.1 * noise).requires_grad_()  # real-valued: no ties, where some have kinks
    assert torch.autograd.gradcheck(
        lambda f: compute(a, b, f, [name])[name], (fused,), fast_mode=True, eps=1e-7, atol=1e-4
    )


def test_gradients_flow_after_a_run_in_inference_mode():
    """What is kept between calls, such as filters, must serve both."""
    a, b, fused = images(1, 24, 29)
    with torch.inference_mode():
        expected = compute(a, b, fused, ["ssim"])["ssim"].item()
    again = compute(a, b, fused.requires_grad_(), ["ssim"])["ssim"].sum()
    again.backward()
    assert again.item() == pytest.approx(expected)
    assert fused.grad.abs().sum() > 0


def test_metrics_without_a_gradient_do_not_hinder_the_others():
    a, b, fused = images(1, 24, 29)
    values = compute(a, b, fused.requires_grad_(), names("exact"))
    assert {name for name, value in values.items() if value.requires_grad} == set(DIFFERENTIABLE)
    sum(value.sum() for value in values.values()).backward()
    assert fused.grad.isfinite().all() and fused.grad.abs().sum() > 0


@pytest.mark.parametrize("taps", [3, 7, 11, 17])
@pytest.mark.parametrize("dim", [-1, -2])
def test_correlation_is_that_of_torch(taps, dim):
    generator = torch.Generator().manual_seed(taps)
    planes = torch.rand(2, 3, 75, 41, generator=generator, dtype=torch.float64)
    kernel = torch.rand(taps, generator=generator, dtype=torch.float64)
    shape = (1, 1, taps, 1) if dim == -2 else (1, 1, 1, taps)
    expected = torch.nn.functional.conv2d(planes.flatten(0, 1)[:, None], kernel.reshape(shape))
    got = correlate1d(planes, kernel.tolist(), dim)
    torch.testing.assert_close(got.flatten(0, 1), expected[:, 0], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(2, 3, 75, 41), (64, 75), (1, 43, 12)])
@pytest.mark.parametrize("taps", [7, 11, 12])
@pytest.mark.parametrize("dim", [-1, -2])
def test_correlation_in_windows_is_the_same_and_passes_gradients(shape, taps, dim):
    generator = torch.Generator().manual_seed(taps)
    planes = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    kernel = torch.rand(taps, generator=generator, dtype=torch.float64).tolist()
    expected, got = correlate1d(planes, kernel, dim), correlate_in_windows(planes, kernel, dim)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)
    weights = torch.rand(got.shape, generator=generator, dtype=torch.float64)
    gradients = [torch.autograd.grad((out * weights).sum(), planes)[0] for out in (expected, got)]
    torch.testing.assert_close(*gradients, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_metric_waits_for_a_device(convention, dtype):
    """Tensors without data take the way of a GPU; what would have to look at a value to go on fails on them."""
    a, b, fused = (torch.empty(2, channels, 50, 61, dtype=torch.uint8, device="meta") for channels in (3, 1, 3))
    for name, value in compute(a, b, fused, names(convention), convention, dtype=dtype).items():
        assert value.shape == (2,) and value.dtype == dtype and value.device.type == "meta", name


@pytest.mark.parametrize("size", [(12, 13), (64, 65), (33, 128)])
def test_dct_is_that_of_scipy(size):
    planes = torch.rand(2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 255
    expected = scipy.fft.dctn(planes.numpy(), axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(dct_map(planes).numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_finite_on_flat_images(name):
    flat = torch.full((1, 1, 16, 16), 0.5, dtype=torch.float64)
    a, b, _ = images(1, 16, 16, channels=1)
    for first, second in ((a, b), (flat, b), (flat, flat + 0.1)):
        fused = flat.clone().requires_grad_()
        compute(first, second, fused, [name])[name].sum().backward()
        assert fused.grad.isfinite().all()


def test_fused_equal_to_both_sources_is_perfect():
    a, _, _ = images(1, 48, 50, channels=1)
    perfect = {"ssim": 1, "ms_ssim": 1, "mef_ssim": 1, "qs": 1, "qw": 1, "qe": 1, "qc": 1, "qy": 1, "qm": 1, "qcb": 1}
    perfect |= {
        "fmi": 1,
        "fmi_pixel": 1,
        "nmi": 2,
        "vif": 2,
        "viff": 1,
        "cc": 1,
        "mse": 0,
        "rmse": 0,
        "qcv": 0,
        "ce": 0,
    }
    perfect |= {"nabf": 0, "qsf": 0}
    for name, value in score(a, a, a, list(perfect)).items():
        assert value == pytest.approx(perfect[name], abs=1e-6), name


def test_values_lie_in_the_stated_range():
    for seed in range(3):
        a, b, fused = images(4, 40, 44, seed=seed)
        for name, values in compute(a, b, fused, names("exact")).items():
            low, high = info(name).bounds
            assert low is None or values.min() >= low - 1e-9, name
            assert high is None or values.max() <= high + 1e-9, name


def test_structure_agrees_with_other_libraries():
    a, b, fused = images(1, 200, 190, channels=1)
    ours = score(a, b, fused, ["ssim", "ms_ssim", "vif"])
    pairs = [(fused, a), (fused, b)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    ssim = [structural_similarity(x[0, 0].numpy(), y[0, 0].numpy(), **options) for x, y in pairs]
    assert ours["ssim"] == pytest.approx(np.mean(ssim), abs=1e-9)
    # torchmetrics reflects the border, Wang's code and ours keep the windows inside
    scale = [peers.multiscale_structural_similarity_index_measure(x, y, data_range=1.0).item() for x, y in pairs]
    assert ours["ms_ssim"] == pytest.approx(np.mean(scale), abs=0.02)
    vif = [peers.visual_information_fidelity(x * 255, y * 255).item() for x, y in pairs]
    assert ours["vif"] == pytest.approx(sum(vif), rel=1e-4)


def test_arrays_tensors_bytes_and_floats_give_the_same():
    a, b, fused = images(1, 30, 31)
    arrays = [(x[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for x in (a, b, fused)]
    wanted = ["qabf", "en", "mi@tang", "ssim@vifb"]
    expected = score(a, b, fused, wanted)
    for triple in (
        arrays,
        [x[0] for x in (a, b, fused)],
        [x / 255 for x in arrays],
        [x.astype(np.uint16) * 257 for x in arrays],
    ):
        assert score(*triple, wanted) == pytest.approx(expected)


def test_a_gray_source_beside_a_color_one_counts_in_every_channel():
    a, b, fused = images(1, 30, 31)
    gray = b[:, :1]
    wanted = ["qabf@vifb", "mi@vifb", "sd@vifb"]
    assert score(a, gray, fused, wanted) == pytest.approx(score(a, gray.expand(-1, 3, -1, -1), fused, wanted))


def test_mefb_takes_the_first_channel_of_a_color_image_from_gray_sources():
    """As its code does, but for AG, which takes unrounded luma, and MEF-SSIM, which is on luma whatever it gets."""
    a, b, fused = images(2, 30, 31)
    a, b = a[:, :1], b[:, :1]
    got = compute(a, b, fused, names("mefb"), "mefb")
    first = compute(a, b, fused[:, :1], names("mefb"), "mefb")
    first["ag"] = compute(a, b, fused, ["ag"], "exact", color="luma")["ag"]
    first["mef_ssim"] = compute(a, b, fused, ["mef_ssim"], "tang")["mef_ssim"]
    for name, value in got.items():
        torch.testing.assert_close(value, first[name], rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    means = compute(a, b, fused, ["en:channels", "en@vifb"], "mefb")  # a color policy that the user states is kept
    torch.testing.assert_close(means["en:channels"], means["en@vifb"])
    assert not torch.isclose(got["en"], means["en:channels"]).any()


@pytest.mark.parametrize("gray", ["a", "b"])
def test_mefb_averages_the_channels_if_one_source_has_color(gray):
    a, b, fused = images(1, 30, 31)
    a, b = (a[:, :1], b) if gray == "a" else (a, b[:, :1])
    channels = [score(a[:, i % a.shape[1]], b[:, i % b.shape[1]], fused[:, i], ["qabf@mefb"]) for i in range(3)]
    expected = np.mean([each["qabf@mefb"] for each in channels])
    assert score(a, b, fused, ["qabf@mefb"])["qabf@mefb"] == pytest.approx(expected)


def test_color_policy_can_be_chosen():
    a, b, fused = images(1, 30, 31)
    channels = [score(a[:, i : i + 1], b[:, i : i + 1], fused[:, i : i + 1], ["en@vifb"])["en@vifb"] for i in range(3)]
    got = score(a, b, fused, ["en@vifb", "en@vifb:luma", "en@tang"])
    assert got["en@vifb"] == pytest.approx(np.mean(channels))
    assert got["en@vifb:luma"] == got["en@tang"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x * 255, r"\[0, 1\]"),
        (lambda x: x.int(), "no agreed range"),
        (lambda x: x[..., :-1], "sizes differ"),
        (lambda x: x.repeat(1, 2, 1, 1)[:, :4], "not an image"),
        (lambda x: x * torch.nan, r"\[0, 1\]"),
        (lambda x: x[:0], "empty"),
    ],
)
def test_bad_images_are_refused_in_one_line(change, said):
    a, b, fused = images(1, 20, 20)
    with pytest.raises(DataError, match=said) as caught:
        score(a, b, change(fused), ["qabf"])
    assert "\n" not in str(caught.value)


def test_tiny_images_and_batches_are_refused():
    with pytest.raises(DataError, match="at least 12x12"):
        score(*images(1, 11, 30), ["ssim"])
    with pytest.raises(DataError, match="one triple"):
        score(*images(2, 20, 20), ["ssim"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("qabff", "did you mean 'qabf'"),
        ("qabf@vifbb", "choose one of: exact, vifb"),
        ("scd@vifb", "not part of convention 'vifb'; it is in: exact, tang"),
        ("en:blue", "choose one of: luma, channels"),
    ],
)
def test_unknown_names_are_answered_with_the_known(text, said):
    with pytest.raises(ConfigError, match=said):
        MetricKey.parse(text)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"name": "x", "metrics": []}, "at least one metric"),
        ({"name": "x", "metrics": ["en", "en"]}, "listed twice"),
        ({"name": "x", "metrics": [{"metric": "en", "decimal": 2}]}, "unknown key 'decimal'"),
        ({"name": "x", "metric": ["en"]}, "unknown key 'metric'"),
    ],
)
def test_bad_suites_are_refused(config, said):
    with pytest.raises(ConfigError, match=said):
        Suite.from_config(config)


def test_every_metric_is_documented():
    for name in names():
        known = info(name)
        assert known.source
        for convention in known.variants:
            assert len(known.describe(convention)) > 40, (name, convention)


@pytest.mark.parametrize("convention", ["vifb", "tang"])
@pytest.mark.parametrize("name", ["psnr", "ag", "sf", "ssim"])
def test_without_rounding_a_toolbox_has_gradients_and_nearly_its_values(convention, name):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 3, 40, 48, generator=generator) for _ in "ab")
    fused = (0.6 * a + 0.3 * b + 0.02).requires_grad_()
    bare = compute(a, b, fused, [name], convention, rounded=False)[name]
    torch.testing.assert_close(bare, compute(a, b, fused, [name], convention)[name], rtol=5e-3, atol=0)
    (slope,) = torch.autograd.grad(bare.sum(), fused)
    assert slope.isfinite().all() and slope.abs().sum() > 0
