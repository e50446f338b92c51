"""The default model: small, the same pictures for the same pair, and better than classic fusion where it should be."""

import pytest
import torch

from fusion import load_model
from fusion.api import compose
from fusion.data import SampleData
from fusion.data.files.image import read_image
from fusion.hub import SHIPPED
from fusion.job.config import instantiate
from fusion.metrics import score

TASKS = ("vif", "mef", "mff")
GOLDEN: dict[str, tuple[float, ...]] = {
    "vif": (0.46266, 0.17426, 0.73486, 0.40229, 0.61982, 0.64718),
    "mef": (0.48942, 0.17694, 0.81288, 0.60525, 0.72894, 0.53231),
    "mff": (0.43812, 0.17353, 0.73241, 0.34525, 0.58957, 0.75931),
}
"""Mean, standard deviation and four pixels of the green channel of what `fixed_pair` becomes."""


@pytest.fixture(scope="module")
def model():
    return load_model("tcmoa_pyramid")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of every task from photographs; the model never saw them."""
    root = tmp_path_factory.mktemp("samples")
    SampleData(root, train_pairs=1, test_pairs=3, height=224, width=288).prepare()
    found = {"vif": [], "mef": [], "mff": []}
    for index in (1, 2, 3):
        name = f"sample_{index:02d}"
        for task, part in (("mff", "MFIF"), ("mef", "MEFB")):
            first, second = sorted((root / part / "input" / name).iterdir())[:2]
            found[task].append((second, first))
    for infrared in sorted((root / "LLVIP" / "infrared" / "test").iterdir()):
        found["vif"].append((root / "LLVIP" / "visible" / "test" / infrared.name, infrared))
    return {
        task: [tuple(read_image(p).pixels.float() / 255 for p in pair) for pair in some] for task, some in found.items()
    }


def fixed_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two smooth colour pictures made of waves, 96x130."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 130), indexing="ij")
    a = torch.stack([0.5 + 0.4 * torch.sin(9 * x + k) * torch.cos(7 * y) + 0.05 * torch.sin(90 * x) for k in range(3)])
    b = torch.stack([0.5 + 0.3 * torch.cos(5 * x * y + k) + 0.1 * torch.sin(60 * y) for k in range(3)])
    return a.clamp(0, 1), b.clamp(0, 1)


def test_it_is_small_and_the_default():
    assert (SHIPPED / "tcmoa_pyramid.safetensors").stat().st_size < 1e6
    for root in ("predict", "train", "evaluate", "benchmark"):
        assert compose(root, [], "model")["weights"] == "tcmoa_pyramid"


@pytest.mark.parametrize("experiment", ["demo", "tcmoa_pyramid"])
def test_training_goes_on_from_it(model, experiment):
    overrides = [f"experiment={experiment}", "model.weights=tcmoa_pyramid", "model.backbone.overview=true"]
    config = compose("train", overrides, "model")
    assert "weights" in config and (experiment != "demo" or compose("train", overrides[:1], "model") == config)
    made = instantiate(config)
    made.network.load_state_dict(model.network.state_dict())
    a, b = (x[None] for x in fixed_pair())
    shares = [one.network.sites["5"].common for one in (made, model)]
    if shares[0] is not None:  # the recipe trains without a common choice
        torch.testing.assert_close(*shares)
        for task in TASKS:
            assert torch.equal(made.fuse(a, b, task=task).fused, model.fuse(a, b, task=task).fused)


@pytest.mark.parametrize("task", TASKS)
def test_fixed_values(model, task):
    fused = model.fuse(*fixed_pair(), task=task).fused[0, 1]
    found = (fused.mean(), fused.std(), fused[10, 10], fused[48, 65], fused[80, 20], fused[95, 129])
    torch.testing.assert_close(torch.stack(found), torch.tensor(GOLDEN[task]), atol=2e-4, rtol=0)


@pytest.mark.parametrize("baseline", ["average", "maximum", "laplacian"])
@pytest.mark.parametrize("task", TASKS)
def test_it_is_above_the_classic_methods(model, pairs, task, baseline):
    classic = load_model(baseline)
    margins = []
    for a, b in pairs[task]:
        ours, theirs = (score(a, b, m.fuse(a, b, task=task).fused[0], ["qabf", "qcb"]) for m in (model, classic))
        margins.append([ours[name] - theirs[name] for name in ours])
    edges, contrast = torch.tensor(margins).mean(0)
    assert edges + contrast > 0
    # One source of a made-up thermal pair has nearly all edges: the brighter pixel keeps them whole, softer prompts do not.
    assert edges > (-0.03 if baseline == "maximum" else 0)


def test_multi_focus_is_nearly_the_sharp_photograph(model, pairs):
    for a, b in pairs["mff"]:
        sharper = score(a, b, model.fuse(a, b, task="mff").fused[0], ["ag"])["ag"]
        assert sharper > 0.97 * max(score(x, x, x, ["ag"])["ag"] for x in (a, b))


@pytest.mark.parametrize("task", [*TASKS, "medical", "nir"])
def test_hostile_pictures_come_back_finite(model, task):
    for a, b in ((torch.zeros(3, 20, 31), torch.ones(3, 20, 31)), (torch.rand(3, 1, 1), torch.rand(3, 1, 1))):
        fused = model.fuse(a, b, task=task).fused
        assert fused.shape[-2:] == a.shape[-2:] and fused.isfinite().all()


def test_hot_targets_stay_bright_and_skies_even(model):
    visible = torch.linspace(0.7, 0.9, 128).view(1, 128, 1).expand(3, 128, 160).clone()  # a sky
    infrared = torch.full((3, 128, 160), 0.15)
    infrared[:, 60:90, 70:84] = 0.95  # somebody in front of it
    fused = model.fuse(visible, infrared, task="vif").fused[0].mean(0)
    person, around = fused[66:84, 74:80].mean(), fused[66:84, 20:50].mean()
    assert person > 0.8 and person > around
    rows = fused[:40].mean(1)
    assert rows.diff().abs().max() < 0.02  # no blotch: the sky is as even as it was
