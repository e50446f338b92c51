"""What the shipped pyramid is fitted by: estimates of a mean rank, with gradients that agree with steps of the metrics."""

import csv
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2] / "experiments" / "tcmoa_pyramid"
ANCHOR = "tcmoa_pyramid+model.weights=null"


@pytest.fixture(scope="module")
def standing_of(tmp_path_factory):
    """Standings among five made-up methods about the anchor, on the anchor's own pictures."""
    sys.path.insert(0, str(ROOT))
    from standing import Standing

    folder = tmp_path_factory.mktemp("published")

    def make(suite):
        rows = [row for row in csv.reader((ROOT / f"anchor_{suite}.csv").open(newline=""))]
        with (folder / f"{suite}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "method", *(name.split("@")[0] for name in rows[0][2:])])
            for image, _, *values in rows[1:]:
                for method, factor in enumerate((0.8, 0.9, 1.1, 1.2, 1.3)):
                    writer.writerow([image, f"method {method}", *(factor * float(value) for value in values)])
        return Standing(suite, folder / f"{suite}.csv", ROOT / f"anchor_{suite}.csv", ANCHOR)

    return make


def pair():
    generator = torch.Generator().manual_seed(0)
    small = [torch.rand(1, 3, 12, 16, generator=generator) for _ in "ab"]
    return [0.2 + 0.6 * torch.nn.functional.interpolate(x, (96, 128), mode="bilinear") for x in small]


@pytest.mark.parametrize("suite", ["vifb", "tno"])
def test_the_anchor_stands_between_the_methods_about_it(standing_of, suite):
    standing = standing_of(suite)
    ranks = standing.ranks(standing.here)
    assert set(ranks) <= {3.0, 4.0}  # two are below, three above, and some metrics are errors
    half = float(standing.soft_rank(standing.here, 0.01))
    assert half == pytest.approx(ranks.mean(), abs=1e-3)


@pytest.mark.parametrize("suite", ["vifb", "tno"])
def test_a_better_value_is_a_better_rank(standing_of, suite):
    standing = standing_of(suite)
    now = standing.here.clone().requires_grad_()
    (slope,) = torch.autograd.grad(standing.soft_rank(now, 0.5), now)
    assert bool((slope * torch.from_numpy(standing.signs) < 0).all())


@pytest.mark.parametrize(("suite", "names"), [("vifb", "psnr ag ei sd sf rmse ssim"), ("tno", "sf psnr mse ag cc scd")])
def test_gradients_agree_with_steps_of_the_benchmarks_own_metrics(standing_of, suite, names):
    standing, (a, b) = standing_of(suite), pair()

    def values(share):
        return standing.measured(a, b, (0.7 * a + 0.1).lerp(0.6 * a + 0.4 * b, share))

    share = torch.zeros((), requires_grad=True)
    seen = values(share)
    step = values(torch.tensor(0.1)) - values(torch.tensor(0.0))
    for name in names.split():
        place = standing.names.index(name)
        (slope,) = torch.autograd.grad(seen[place], share, retain_graph=True)
        assert float(slope) * 0.1 == pytest.approx(float(step[place]), rel=0.35), name


def test_values_are_those_of_the_benchmark(standing_of):
    from fusion.metrics import compute

    standing, (a, b) = standing_of("vifb"), pair()
    fused = (0.5 * (a + b)).requires_grad_()
    pictures = [(255 * x.detach() + 0.5).to(torch.uint8) for x in (a, b, fused)]
    true = compute(*pictures, standing.names, "vifb", color="luma", dtype=torch.float32)
    torch.testing.assert_close(
        standing.measured(a, b, fused).detach(), torch.stack([true[n][0] for n in standing.names]).double()
    )


def test_the_tone_is_fitted_for_one_task_alone():
    sys.path.insert(0, str(ROOT))
    from tone import RATES, free_rows, inverted

    from fusion import load_model

    model = load_model("tcmoa", overrides=["model/backbone=pyramid", "model.backbone.overview=true"])
    network, row, (a, b) = model.network.eval(), model.tasks.index("mef"), pair()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    free = free_rows(network, row)
    optimizer = torch.optim.Adam(free.values(), lr=1e-3)
    for _ in range(2):  # the heads start at zero, and let nothing through to the source embeddings
        optimizer.zero_grad()
        network(a, b, row).fused.square().mean().backward()
        optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= set(free) and {name.rpartition(".")[2] for name in changed} == set(RATES)
    for name in changed:
        others = [index for index in range(len(model.tasks)) if index != row]
        assert torch.equal(network.state_dict()[name][others], before[name][others])
        if name.endswith("overview"):
            assert not network.state_dict()[name][..., 1:].any()
    assert inverted(network, [(a, b)], row).shape == (1,)
