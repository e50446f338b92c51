"""TC-MoA on a pyramid: any size, tiles, prompts, steering, tasks, what it starts from, and its objective."""

import copy
from contextlib import contextmanager

import pytest
import torch

from fusion import load_model
from fusion.errors import ConfigError
from fusion.layers.color import split_luma
from fusion.models.tcmoa import BenchmarkLoss
from fusion.models.tcmoa.cues import CUES, band_cues
from fusion.models.tcmoa.many import base_prompts
from fusion.models.tcmoa.tiles import fuse_pyramid
from fusion.models.tiled import spans

PARTS = ["model/backbone=pyramid", "model/loss=benchmark", "model.expert.hidden_ratio=0.5", "model.backbone.levels=3"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = load_model("tcmoa", overrides=PARTS)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.named_parameters():
        if "cue_weights" not in name:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


def pair(height=64, width=96, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    small = [torch.rand(batch, 3, -(-height // 4), -(-width // 4), generator=generator) for _ in "ab"]
    return tuple(torch.nn.functional.interpolate(x, (height, width), mode="bicubic").clamp(0, 1) for x in small)


@pytest.mark.parametrize("size", [(64, 96), (1, 1), (7, 250), (33, 41)])
def test_any_size_comes_back(model, size):
    output = model.fuse(*pair(*size), task="mff")
    assert output.fused.shape == (1, 3, *size)
    assert output.fused.isfinite().all()


@pytest.mark.parametrize("task", ["vif", "mef", "mff", "medical"])
def test_equal_sources_come_back_without_gain(task):
    gains = (f"model.backbone.gains.{t}=[1.0]" for t in ("vif", "mef", "mff"))
    plain = load_model("tcmoa", overrides=[*PARTS, *gains, "model.backbone.faint=null"])
    a, _ = pair()
    torch.testing.assert_close(plain.fuse(a, a, task=task).fused, a, atol=2e-5, rtol=0)


@pytest.mark.parametrize("task", ["mef", "vif"])  # vif makes a choice that is common to the whole picture
def test_tiles_agree_with_the_whole(model, task):
    a, b = pair(400, 530)
    b = b * torch.linspace(0.2, 1, 530)  # so that tiles alone would choose differently
    index = model.tasks.index(task)

    def call(x, y, **whole):
        return model(x, y, task, **whole)

    def prompts(lumas, known):
        return base_prompts(model.network, lumas, index, known)

    with torch.no_grad():
        whole = fuse_pyramid(call, a, b, model.network, prompts)
        tiled = fuse_pyramid(call, a, b, model.network, prompts, whole=1000, tile=128)
    assert tiled.fused.shape == whole.fused.shape
    torch.testing.assert_close(tiled.fused, whole.fused, atol=1e-5, rtol=0)


@contextmanager
def alone(site):
    """The site's own settings for a while, whatever the pair looks like; they are what they were afterwards."""
    kept, common = copy.deepcopy(site.state_dict()), copy.deepcopy(site.common)
    site.overview.data.zero_()
    try:
        yield
    finally:
        site.load_state_dict(kept)
        site.common = common


def test_a_common_choice_keeps_the_mean_of_the_prompts(model):
    a, b = pair(160, 224)
    base = model.network.sites["3"]
    with alone(base):
        made = []
        for common in (0.0, 0.5, 1.0):
            base.common[0] = common
            made.append(model.fuse(a, b, task="vif").prompts[0])
    own, half, one = made
    torch.testing.assert_close(one.std((-2, -1)), torch.zeros(1, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(half, (own + one) / 2, atol=1e-6, rtol=0)
    assert float(own.std()) > 1e-3


def test_tiles_cover_a_side_once():
    covered = [pixel for _, _, start, end in spans(5000, 1536, 600, 64) for pixel in range(start, end)]
    assert covered == list(range(5000))
    assert all(start % 64 == 0 for start, *_ in spans(5000, 1536, 600, 64))


def test_prompts_add_up_and_every_band_is_reported(model):
    output = model.fuse(*pair(), task="vif")
    assert [tuple(p.shape[-2:]) for p in model.fuse(*pair(50, 70), task="vif").prompts] == [
        (7, 9),
        (13, 18),
        (25, 35),
        (50, 70),
    ]
    assert output.sites == ["level.3", "level.2", "level.1", "level.0"]
    for prompt, routing in zip(output.prompts, output.routings, strict=True):
        torch.testing.assert_close(prompt.sum(1), torch.ones_like(prompt[:, 0]))
        assert ((routing.weights > 0).sum(1) <= 2).all()
        assert routing.shape[0] == 1 and routing.weights.shape == (routing.shape[1] * routing.shape[2], 4)


def test_controls_steer(model):
    a, b = pair()
    base = model.fuse(a, b, task="vif").fused
    even = model.fuse(a, b, task="vif", alpha=0.0)
    assert all(torch.allclose(prompt, torch.tensor(0.5)) for prompt in even.prompts)
    toward_a = model.fuse(a, b, task="vif", beta=0.4).fused
    toward_b = model.fuse(a, b, task="vif", beta=-0.4).fused
    assert (toward_a - a).abs().mean() < (base - a).abs().mean() < (toward_b - a).abs().mean()
    one = model.fuse(a, b, task="vif", beta=0.4, sites=["level.0"])
    assert one.prompts[-1][:, 0].mean() > 0.8 and not torch.equal(one.fused, toward_a)
    with pytest.raises(ConfigError, match="level.0"):
        model.fuse(a, b, task="vif", beta=0.4, sites=["encoder.1"])


def test_tasks_have_routers_of_their_own_and_mix(model):
    a, b = pair()
    vif, mff = (model.fuse(a, b, task=task).fused for task in ("vif", "mff"))
    assert (vif - mff).abs().mean() > 1e-3
    torch.testing.assert_close(model.fuse(a, b, task="vif", task_weights={"mff": 1.0}).fused, mff)
    mixed = model.fuse(a, b, task="vif", task_weights={"vif": 0.5, "mff": 0.5}).fused
    assert (mixed - vif).abs().mean() > 1e-4 and (mixed - mff).abs().mean() > 1e-4
    per_site = model.fuse(a, b, task="vif", site_tasks=["mff"] * 4).fused
    assert (per_site - mff).abs().mean() < (per_site - vif).abs().mean()


def test_a_grey_source_leaves_the_other_its_colour(model):
    a, b = pair()
    grey = split_luma(b)[0].expand_as(b)
    chroma = split_luma(model.fuse(a, grey, task="vif").fused)[1]
    expected = split_luma(a)[1]
    inside = (model.fuse(a, grey, task="vif").fused - 0.5).abs().amax(
        1, keepdim=True
    ) < 0.49  # where nothing was clipped
    assert ((chroma - expected).abs() * inside).mean() < 0.01


def clipped_pair():
    """Orange wood, whose red and green are cut off in the second half of `a`: yellow there, and dark but true in `b`."""
    wood = torch.tensor([0.9, 0.5, 0.2]).view(1, 3, 1, 1).expand(1, 3, 64, 128)
    a = wood * torch.tensor([0.95, 2.2]).repeat_interleave(64)
    return a.clamp(0, 1), 0.3 * wood


def warmth(picture):
    """Red above green, as a share of what it is above blue; false hues are nearer to 0."""
    red, green, blue = picture[0, :, 16:48].mean(1)
    return ((red - green) / (red - blue))[80:112].mean()


@pytest.mark.parametrize("third", [False, True])
def test_clipped_places_lose_their_false_hue(third):
    models = [load_model("tcmoa", overrides=[*PARTS, *extra]) for extra in ([], ["model.backbone.clipped=null"])]
    sources = [*clipped_pair(), *([clipped_pair()[1] * 0.8] if third else [])]

    def fused(model, task):
        return (model.fuse_all(sources, task=task) if third else model.fuse(*sources, task=task)).fused

    trusting, doubting = warmth(fused(models[1], "mef")), warmth(fused(models[0], "mef"))
    assert doubting > trusting + 0.1  # of wood it is 0.57, of what is cut off 0
    for task in ("vif", "mff"):
        assert torch.equal(fused(models[0], task), fused(models[1], task))


def test_focus_is_chosen_at_once():
    sharp = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    blurred = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2, count_include_pad=False)
    a, b = sharp.clone(), blurred.clone()
    a[..., 48:], b[..., 48:] = blurred[..., 48:], sharp[..., 48:]
    fused = load_model("tcmoa", overrides=PARTS).fuse(a, b, task="mff").fused
    assert (fused - sharp)[..., :40].abs().mean() < 0.1 * (blurred - sharp).abs().mean()
    assert (fused - sharp)[..., 56:].abs().mean() < 0.1 * (blurred - sharp).abs().mean()


def test_hardness_lies_between_the_average_and_a_choice(model):
    a, b = pair()
    site = model.network.sites["0"]
    with alone(site):
        hard = model.fuse(a, b, task="vif").prompts[-1]
        before = float(site.hardness[0].detach())
        site.hardness.data[0] = before / 2
        soft = model.fuse(a, b, task="vif").prompts[-1]
    assert torch.allclose(soft - 0.5, (hard - 0.5) / 2, atol=1e-6)
    assert float((hard - 0.5).abs().max()) <= before / 2 + 1e-6


def test_faint_detail_has_a_gain_of_its_own(model):
    site = model.network.sites["0"]
    task = 0
    loud, quiet = (torch.full((1, 2, 8, 8), value).log() for value in (1e-1, 4e-6))
    logit = torch.zeros(1, 1, 4, 4)
    with torch.no_grad():
        assert torch.allclose(site.gain_of(logit, loud, task), torch.ones(1, 1, 8, 8), atol=2e-3)
        factor = site.gain_of(logit, quiet, task)
    assert torch.allclose(factor, site.faint[task].exp().detach(), atol=2e-2)
    assert float(factor.max()) < 0.9


def test_without_experts_the_cues_decide():
    cues = load_model("tcmoa", overrides=[*PARTS, "model/adapter=none"])
    full = load_model("tcmoa", overrides=PARTS)  # its heads start at zero
    a, b = pair()
    output = cues.fuse(a, b, task="mef")
    assert output.routings == [] and len(output.prompts) == 4
    torch.testing.assert_close(output.fused, full.fuse(a, b, task="mef").fused)
    assert sum(p.numel() for p in cues.parameters()) < 500


def test_flat_pictures_have_finite_cues_and_gradients():
    bands = torch.zeros(1, 2, 8, 8, requires_grad=True)
    seen = band_cues(bands, torch.full((1, 2, 8, 8), 0.5), torch.full((1, 2, 1, 1), 0.5), None, base=False)
    assert seen.tokens.shape == (1, 2, len(CUES) - 1, 4, 4) and seen.features.shape == (1, 11, 4, 4)
    (seen.energy.sum() + seen.features.sum()).backward()
    assert bands.grad.isfinite().all()


@pytest.mark.parametrize("task", ["vif", "mef", "mff"])
def test_the_objective_trains_every_part(model, task):
    a, b = pair(96, 96, batch=2)
    model.train()
    model.zero_grad()
    output = model(a, b, task)
    terms = model.losses(output, {"a": a, "b": b, "task": task, "reference": a, "name": ["x", "y"]})
    sum(terms.values()).backward()
    model.eval()
    assert {"qabf", "soft_mi", "smooth", "mir", "balance"} <= set(terms)
    assert ("reference_l1" in terms) == (task == "mff")
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        if "w_noise" not in name and "embedding" not in name and "chroma" not in name:
            assert parameter.grad.abs().sum() > 0, name


def test_a_better_metric_is_a_smaller_loss():
    loss = BenchmarkLoss(
        {"qabf": 0.1, "sf": 4.0, "soft_ce": 0.2},
        {"vif": {"qabf": 1.0, "sf": 1.0, "soft_ce": 1.0}},
        {"vif": {"sf": 1.0}},
    )
    from fusion.models.output import FusionOutput

    a, b = pair(96, 96)
    batch = {"a": a, "b": b, "task": "vif", "name": ["x"]}
    terms = {
        f: loss(FusionOutput(p), batch, 0)
        for f, p in (("a", a), ("flat", a * 0 + 0.5), ("wild", (3 * (a - 0.5) + 0.5).clamp(0, 1)))
    }
    assert terms["a"]["qabf"] < terms["flat"]["qabf"] and terms["a"]["soft_ce"] < terms["flat"]["soft_ce"]
    assert terms["a"]["sf"] < terms["wild"]["sf"]  # above the ceiling more contrast counts against


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spreads": {}, "weights": {"vif": {"qabf": 1}}}, "model.loss.spreads.qabf"),
        ({"spreads": {"qp": 1}, "weights": {"vif": {"qp": 1}}}, "no gradient"),
        ({"spreads": {}, "weights": {}, "inverted_sides": [0]}, "inverted_sides"),
        (
            {"spreads": {"qabf": 1}, "weights": {"vif": {"qabf": 1}}, "ceiling": {"vif": {"qabf": 1}}},
            "model.loss.ceiling.vif.qabf",
        ),
    ],
)
def test_impossible_objectives(settings, said):
    with pytest.raises(ConfigError, match=said):
        BenchmarkLoss(**settings)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("levels=9", "from 2 to 8"),
        ("gain_bound=0.5", "gain_bound"),
        ("offset_bound=-1", "offset_bound"),
        ("hardness.vif=[1,2,1]", "from 0 to 1"),
        ("faint.vif=[1]", "2 numbers"),
        ("common.vif=2", "from 0 to 1"),
        ("targets.vif=2", "targets.vif=2: expected a number from 0 to 1"),
        ("clipped.mef=-1", "from 0 to 20"),
        ("targets.vif=much", "targets.vif=much: expected a number from 0 to 1"),
        ("clipped.mef=null", "expected a number from 0 to 20"),
        ("targets=0.5", "targets=0.5: expected numbers by task, or null"),
        ("hardness.vif=1", "hardness.vif=1: expected 3 numbers"),
        ("faint.vif=[a,b]", "2 numbers"),
        ("faint=1", "faint=1: expected 2 numbers by task, or null"),
    ],
)
def test_impossible_backbones(override, said):
    with pytest.raises(ConfigError, match=said):
        load_model("tcmoa", overrides=[*PARTS, f"model.backbone.{override}"])
