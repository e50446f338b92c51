"""Every value that the original toolboxes gave on synthetic pictures, edge cases included."""

import math
from collections import defaultdict

import numpy as np
import pytest

from fusion.metrics import CONVENTIONS, names, score

RELATIVE, ABSOLUTE = 1e-3, 1e-4

# Toolbox steps that cannot be carried over, and how far the value may then lie from the toolbox's.
# Q_C and Q_Y divide rounding noise of flat areas by itself: the toolbox's value depends on its order of summation.
# Q_S and Q_W split flat windows between the sources by rounding noise; here evenly.
# FMI of wavelets of constant images correlates rounding noise of the transform; here such windows are constant.
NOISE = {
    ("qc", "mf_camera_256x256"): 0.005,
    ("qc", "ir_coffee_127x161"): 0.002,
    ("qc", "me_astronaut_256x256"): 0.01,
    ("qy", "me_astronaut_256x256"): 0.02,
    ("qc", "edge_const_source_b_96x128"): 0.2,
    ("qy", "edge_const_fused_96x128"): 0.01,
    ("qc", "edge_const_all_96x128"): math.inf,
    ("qy", "edge_const_all_96x128"): 1.0,
    ("qs", "edge_const_all_96x128"): 0.05,
    ("qw", "edge_const_all_96x128"): 0.05,
    ("fmi_wavelet", "edge_const_fused_96x128"): 0.03,
    ("fmi_wavelet", "edge_const_source_b_96x128"): 0.02,
    ("fmi_wavelet", "edge_const_all_96x128"): 0.17,
}


@pytest.fixture(scope="module")
def scores(golden, pictures):
    """Our value for each golden row, each triple scored once per convention."""
    wanted = defaultdict(list)
    for row in golden:
        if row.convention != "octave" and row.metric not in wanted[row.picture, row.convention]:
            wanted[row.picture, row.convention].append(row.metric)
    return {key: score(*pictures[key[0]], metrics, key[1]) for key, metrics in wanted.items()}


@pytest.mark.parametrize("convention", ["exact", "vifb", "mefb", "liu", "tang"])
def test_values_agree_with_the_toolbox(golden, scores, convention):
    rows = [row for row in golden if row.convention == convention and row.value is not None]
    assert len(rows) >= 30
    wrong = []
    for row in rows:
        ours = scores[row.picture, convention][row.metric]
        bound = NOISE.get((row.metric, row.picture), max(ABSOLUTE, RELATIVE * abs(row.value)))
        if not abs(ours - row.value) <= bound:
            wrong.append(f"{row.metric} {row.picture} {row.toolbox}: {ours} instead of {row.value}")
    assert not wrong, "\n".join(wrong)


def test_named_deviations_are_few_and_real(golden, scores):
    used = set()
    for row in golden:
        if row.convention == "octave" or row.value is None or (row.metric, row.picture) not in NOISE:
            continue
        ours = scores[row.picture, row.convention][row.metric]
        if abs(ours - row.value) > max(ABSOLUTE, RELATIVE * abs(row.value)):
            used.add((row.metric, row.picture))
    assert used == set(NOISE)  # an entry that is no longer needed must go


def test_where_the_toolbox_fails_the_value_is_finite(golden, scores):
    failures = [row for row in golden if row.convention != "octave" and row.value is None]
    assert len(failures) > 50
    for row in failures:
        ours = scores[row.picture, row.convention][row.metric]
        if row.metric == "psnr":
            assert ours == math.inf  # identical images have no error
        else:
            assert math.isfinite(ours), row


def test_octave_edge_thinning_stays_near(golden, scores):
    """Octave thins edges by another rule than Matlab; its FMI may differ by 0.01, a little more on tiny pictures."""
    rows = [row for row in golden if row.convention == "octave"]
    assert rows
    for row in rows:
        assert abs(scores[row.picture, "tang"]["fmi"] - row.value) < 0.03, row


@pytest.mark.parametrize("size", [(16, 16), (15, 17), (16, 17)])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_metric_is_finite_on_flat_equal_odd_and_tiny_images(convention, size):
    ramp = (np.arange(size[0] * size[1]).reshape(size) % 256).astype(np.uint8)
    other = ramp[::-1].copy()
    for value in (0, 77, 255):
        flat = np.full(size, value, np.uint8)
        for triple in (
            (ramp, flat, flat),
            (flat, ramp, ramp),
            (ramp, ramp, flat),
            (ramp, ramp, ramp),
            (ramp, other, ramp),
            (ramp, other, flat),
            (flat, flat, ramp),
        ):
            got = score(*triple, names(convention), convention)
            odd = {name: number for name, number in got.items() if not math.isfinite(number) and name != "psnr"}
            assert not odd
            assert not math.isnan(got.get("psnr", 0.0))


# What constant images give, of any level and in every convention that has the metric, unless OTHERWISE says so
ONES = ("ssim", "ms_ssim", "mef_ssim", "fmi", "fmi_pixel", "fmi_gradient", "fmi_dct", "fmi_wavelet", "viff")
ONES += ("qs", "qw", "qe", "qc", "qy", "qcb", "qm")
ZEROS = ("vif", "nabf", "en", "ce", "mi", "nmi", "te", "te_nava", "qcv", "qp", "sd", "sf", "ag", "ei", "mse", "rmse")
ZEROS += ("cc", "scd", "qsf")
CONSTANT = {
    **dict.fromkeys(ONES, 1),
    **dict.fromkeys(ZEROS, 0),
    "psnr": math.inf,  # identical images have no error
    "qg": 0.986659,  # the product of its sigmoids where gradients agree
    "qncie": 0.801880,  # an identity matrix, 1 - log_256(3)
}
OTHERWISE = {
    ("ssim", "vifb"): 2,  # the sum over the sources
    ("qc", "mefb"): 0,  # no window has a covariance
    ("qc", "liu"): 0,
    ("qm", "liu"): 3,  # the sum over the bands
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_constant_images_give_the_stated_values(convention):
    for value in (0, 77, 255):
        flat = np.full((17, 16), value, np.uint8)
        for name, got in score(flat, flat, flat, names(convention), convention).items():
            if name == "qabf":  # the zero border makes an edge of the frame of any image but a black one
                assert got == (pytest.approx(0.975, abs=5e-4) if value else 0)
            else:
                assert got == pytest.approx(OTHERWISE.get((name, convention), CONSTANT[name]), abs=1e-6), name
