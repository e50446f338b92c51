"""Values of real photographs, where a folder with them is given (they may not be copied here)."""

import json
import math
from collections import defaultdict

import pytest
from omegaconf import OmegaConf

from fusion.job.config import config_dir
from fusion.metrics import Suite, names, score
from fusion.metrics.inputs import as_batch, gray_values, luma, round8

METRICS = {
    "EN": "en", "SD": "sd", "SF": "sf", "AG": "ag", "EI": "ei", "CE": "ce", "MI": "mi", "NMI": "nmi", "Q_ncie": "qncie",
    "TE": "te", "TE_nava": "te_nava", "PSNR": "psnr", "RMSE": "rmse", "MSE": "mse", "CC": "cc", "SCD": "scd",
    "SSIM": "ssim", "MEF-MS-SSIM": "mef_ssim", "Q_abf": "qabf", "Q_g": "qg", "Q_p": "qp", "Q_c": "qc", "Q_y": "qy",
    "Q_s": "qs", "Q_w": "qw", "Q_m": "qm", "Q_sf": "qsf", "Q_cb": "qcb", "Q_cv": "qcv", "VIF": "vif", "FMI_edge": "fmi",
    "FMI_pixel": "fmi_pixel", "FMI_gradient": "fmi_gradient", "FMI_dct": "fmi_dct", "FMI_wavelet": "fmi_wavelet",
    "N_abf": "nabf",
}  # fmt: skip
VARIANTS = {
    "vifb": ("vifb", None), "vifb_gray": ("vifb", "luma"), "vifb_published": ("vifb", None),
    "mefb": ("mefb", None), "mefb_gray": ("mefb", "luma"), "liu": ("liu", "luma"), "tang": ("tang", "luma"),
    "tang_xlsx": ("tang_legacy", "luma"), "tang_numpy": ("tang", "luma"),
}  # fmt: skip
# Q_C and Q_Y divide rounding noise in flat areas; on these photographs their toolbox values mean little.
NOISY = {("fight", "qc"), ("fight", "qy"), ("savic_02", "qc"), ("savic_02", "qy")}
# FMI of DCT and wavelet coefficients in saturated areas hangs on rounding noise of the transform.


def read(path):
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(path))


def read_case(folder, row):
    return [read(folder / row[key]) for key in ("source_a", "source_b", "fused")]


@pytest.fixture(scope="module")
def real(reference_dir):
    folder = reference_dir / "golden"
    rows = json.loads((folder / "golden_real.json").read_text())
    cases = defaultdict(list)
    for row in rows:
        if row["metric"] != "Peilla3" and row["canonical"] != "FMI_edge_octave_thinning":
            cases[row["image"], row["method"], row["variant"]].append(row)
    return folder, cases


@pytest.mark.parametrize("variant", VARIANTS)
def test_real_photographs(real, variant):
    folder, cases = real
    convention, color = VARIANTS[variant]
    compared = 0
    for (image, method, of), rows in cases.items():
        if of != variant:
            continue
        triple = read_case(folder, rows[0])
        if variant == "mefb" and rows[0]["dataset"] == "VIFB":  # the toolbox was given three channels throughout
            triple = [x if x.ndim == 3 else x[..., None].repeat(3, 2) for x in triple]
        chosen = []
        for row in rows:
            name = "viff" if row["canonical"] == "VIF" and variant.startswith("mefb") else METRICS[row["canonical"]]
            if row["canonical"] == "FMI_pixel":  # raw gray values, of which Tang's tables hold nothing
                name = "fmi_pixel@exact"
            elif variant == "tang_numpy" and name not in names("tang"):
                name += "@exact"
            chosen.append(name)
        if variant == "tang_numpy":
            triple = [round8(luma(gray_values(as_batch(x, "image"))))[0].byte().numpy() for x in triple]
        values = score(*triple, list(dict.fromkeys(chosen)), convention, color=color)
        for row, name in zip(rows, chosen, strict=True):
            ours, theirs = values[name], row["value"]
            if theirs is None:
                assert math.isfinite(ours), row
                continue
            compared += 1
            bound = max(1e-4, 1e-3 * abs(theirs))
            if (image, name) in NOISY:
                bound = math.inf
            assert abs(ours - theirs) <= bound, (image, method, variant, name, ours, theirs)
    assert compared > 10


def load_suite(name):
    return Suite.from_config(OmegaConf.to_container(OmegaConf.load(config_dir() / "metrics" / f"{name}.yaml")))


def test_vifb_suite_gives_the_published_digits(real):
    """Five significant digits as published, bar the two color methods whose files differ from those scored."""
    folder, cases = real
    suite = load_suite("vifb")
    labels = {column.label: str(column.key) for column in suite.columns}
    compared = 0
    for (_image, method, variant), rows in cases.items():
        if variant != "vifb_published" or method == "SwinFusion":
            continue
        values = score(*read_case(folder, rows[0]), suite.keys)
        for row in rows:
            ours, theirs = values[labels[row["metric"]]], row["value"]
            assert abs(ours - theirs) <= 0.51 * 10.0 ** (math.floor(math.log10(abs(theirs))) - 4), row
            compared += 1
    assert compared == 65


def test_tcmoa_mff_suite_gives_the_values_behind_the_published_row(reference_dir):
    suite = load_suite("tcmoa_mff")
    expected = json.loads((reference_dir / "golden" / "mfif_ifcnn.json").read_text())["images"]
    data = reference_dir / "data" / "MFIF"
    columns = [
        "NMI",
        "Q_ncie",
        "MI_tang_saturated_gray",
        "Q_cb",
        "Q_cv",
        "MEF_MS_SSIM_gray",
        "FMI_edge_rgb",
        "Q_w_mefb",
    ]
    for entry in expected:
        name = entry["image"]
        a, b = (read(next((data / "input" / name).glob(f"{name}_{x}.*"))) for x in "AB")
        fused = read(data / "fused" / "IFCNN" / f"{name}_IFCNN.jpg")
        values = score(a, b, fused, suite.keys)
        for column, label in zip(suite.columns, columns, strict=True):
            half_digit = 0.5 * 10.0**-column.decimals
            assert abs(values[str(column.key)] - entry[label]) < 0.1 * half_digit, (name, label)
