"""More than two sources: rules of the methods' own, schemes for the others, colour, and what is refused."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from fusion import load_model
from fusion.data.files.reading import read_raster
from fusion.errors import ConfigError, DataError
from fusion.models.many import by_brightness, evaluating, fold, pairs, tree
from fusion.models.reference import DenseFuseNetwork, IFCNNNetwork


def scenes(count: int, size=(40, 52), seed=0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    small = [torch.rand(1, 3, size[0] // 4, size[1] // 4, generator=generator) for _ in range(count)]
    return [
        nn.functional.interpolate(x, size, mode="bicubic").clamp(0, 1) * (0.4 + 0.15 * i) for i, x in enumerate(small)
    ]


OWN = ["average", "maximum", "laplacian", "guided_filter", "tcmoa_pyramid"]


@pytest.mark.parametrize("name", [*OWN, "toar_base"])
def test_the_order_of_the_sources_is_no_matter(name: str) -> None:
    model, images = load_model(name), scenes(4)
    first = model.fuse(images, task="vif")
    assert first.extras["many"] == ("own" if name in OWN else "tree")
    assert name in OWN or model.fuse(images, task="mff").extras["many"] == "pairs"
    assert first.fused.shape == (1, 3, 40, 52)
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        again = model.fuse([images[i] for i in order], task="vif").fused
        torch.testing.assert_close(again, first.fused, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", OWN)
def test_a_rule_of_its_own_gives_two_sources_what_two_sources_give(name: str) -> None:
    model, images = load_model(name), scenes(2)[::-1]
    assert by_brightness(images) == [0, 1]
    for task in ("vif", "mef", "mff"):
        with evaluating(model):
            many = model.fuse_all(images, task).fused.clamp(0, 1)
        torch.testing.assert_close(many, model.fuse(*images, task=task).fused, atol=1e-6, rtol=0)
        torch.testing.assert_close(model.fuse(images, task=task).fused, model.fuse(*images, task=task).fused)


def test_the_mean_and_the_maximum_are_those_of_all_sources() -> None:
    images = scenes(3)
    torch.testing.assert_close(load_model("average").fuse(images).fused, torch.stack(images).mean(0))
    torch.testing.assert_close(load_model("maximum").fuse(images).fused, torch.stack(images).amax(0))


@pytest.mark.parametrize(
    "network", [IFCNNNetwork("max"), IFCNNNetwork("mean"), DenseFuseNetwork(), DenseFuseNetwork("l1")]
)
def test_networks_that_merge_features_take_any_number(network: nn.Module) -> None:
    network.eval()
    images = [image[:, :1] if isinstance(network, DenseFuseNetwork) else image for image in scenes(3)]
    with torch.no_grad():
        first = network(*images)
        torch.testing.assert_close(network(images[2], images[0], images[1]), first, atol=1e-5, rtol=0)
        same = network(images[0], images[0], images[0])
        torch.testing.assert_close(same, network(images[0], images[0]), atol=1e-5, rtol=0)


def test_schemes_do_what_they_are_called() -> None:
    images = [torch.full((1, 3, 8, 8), value) for value in (0.9, 0.7, 0.5, 0.3, 0.1)]
    met: list[tuple[float, float]] = []

    def mean(a, b):
        met.append((round(float(a.mean()), 3), round(float(b.mean()), 3)))
        return (a + b) / 2

    assert tree(mean, images).mean() == pytest.approx(0.5)
    assert met == [(0.9, 0.1), (0.7, 0.3), (0.5, 0.5), (0.5, 0.5)]
    met.clear()
    assert fold(mean, images[:3]).mean() == pytest.approx(0.65) and met == [(0.9, 0.7), (0.8, 0.5)]
    met.clear()
    pairs(mean, images[:3], "mef")
    assert met == [(0.9, 0.7), (0.9, 0.5), (0.7, 0.5)]


def test_pairs_take_the_pair_that_shows_a_place() -> None:
    flat, detailed = torch.full((1, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), 0.5)
    detailed[..., ::2] = 0.7
    fused = pairs(lambda a, b: torch.maximum(a, b), [detailed, flat, flat.clone()], "mff")
    torch.testing.assert_close(fused, detailed, atol=1e-3, rtol=0)


def test_frames_that_are_never_in_focus_side_by_side_are_not_paired() -> None:
    frames = []
    for k in range(4):  # each has its detail in a quarter
        frame = torch.full((1, 3, 16, 160), 0.5)
        frame[..., 40 * k : 40 * k + 40 : 2] = 0.7
        frames.append(frame)
    met = []

    def two(a, b):
        met.append(1)
        return torch.maximum(a, b)

    fused = pairs(two, frames, "mff")
    assert 3 <= len(met) <= 6
    torch.testing.assert_close(fused[..., 44:76], frames[1][..., 44:76], atol=2e-2, rtol=0)


def test_a_stack_comes_back_sharp(tmp_path) -> None:
    """Five frames, each sharp in its fifth: the fused one is as sharp as the truth everywhere."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(1, 3, 48, 100, generator=generator) * 0.4 + 0.3
    blurred = nn.functional.avg_pool2d(truth, 5, 1, 2, count_include_pad=False)
    frames = []
    for k in range(5):
        frame = blurred.clone()
        frame[..., 20 * k : 20 * k + 20] = truth[..., 20 * k : 20 * k + 20]
        frames.append(frame)
    own = load_model("tcmoa_pyramid").fuse(frames, task="mff")
    errors = [(image - truth).square().mean().item() for image in (own.fused, *frames)]
    assert errors[0] < 0.15 * min(errors[1:])
    assert own.prompts[-1].shape == (1, 5, 48, 100)
    torch.testing.assert_close(own.prompts[-1].sum(1), torch.ones(1, 48, 100))
    for k in range(5):  # prompts come in the order of the sources
        assert own.prompts[-1][0, :, :, 20 * k + 6 : 20 * k + 14].mean((1, 2)).argmax() == k


def test_steering_of_many_sources() -> None:
    model, images = load_model("tcmoa_pyramid"), scenes(3)
    flat = model.fuse(images, task="vif", alpha=0.0)
    torch.testing.assert_close(flat.prompts[-1], torch.full_like(flat.prompts[-1], 1 / 3))
    with pytest.raises(ConfigError, match="beta=0.1.*3 sources"):
        model.fuse(images, task="vif", beta=0.1)


@pytest.mark.parametrize("name", ["tcmoa_pyramid", "toar_base"])
def test_the_source_that_has_colour_keeps_it_wherever_it_is(name: str) -> None:
    model = load_model(name)
    colored, *gray = scenes(3)
    gray = [image.mean(1, keepdim=True).expand_as(image) for image in gray]
    for place in range(3):
        images = [*gray[:place], colored, *gray[place:]]
        output = model.fuse(images, task="vif")
        assert (output.fused.amax(1) - output.fused.amin(1)).mean() > 0.05
        assert f"source {place + 1} of 3" in output.extras["color"][0]
    assert model.fuse(images, task="vif", color="luma").fused.shape[1] == 1
    neutral = model.fuse(images, task="vif", color="a").fused
    assert (neutral.amax(1) - neutral.amin(1)).max() < 1e-4


def test_lists_are_checked_and_saved(tmp_path) -> None:
    model = load_model("average")
    arrays = [np.full((10, 12, 3), value, np.uint16) for value in (1000, 2000, 6000)]
    path = model.fuse(arrays, task="mef").save(tmp_path / "o.png")
    assert read_raster(path).planes.dtype == np.uint16 and int(read_raster(path).planes.mean()) == 3000
    files = [model.fuse([a, a], task="mef").save(tmp_path / f"{i}.png") for i, a in enumerate(arrays)]
    assert int(read_raster(model.fuse(files, task="mef").save(tmp_path / "f.png")).planes.mean()) == 3000
    images = scenes(3)
    for call, line in (
        (lambda: model.fuse([images[0]]), "1 source: expected two or more"),
        (lambda: model.fuse(images, images[0]), "fuse takes all sources in one list"),
        (lambda: model.fuse(images[0]), "fuse needs two sources"),
        (lambda: model.fuse([*images, images[0][..., 1:]]), "a is 40x52 and d is 40x51"),
    ):
        with pytest.raises(DataError, match=line):
            call()
    with pytest.raises(ConfigError, match="many=both: expected one of auto, own"):
        model.fuse(images, many="both")
    with pytest.raises(ConfigError, match="many=own: TOARBase has no rule|has no rule for more than two"):
        load_model("toar_base").fuse(images, many="own")


def test_batches_are_fused_one_by_one() -> None:
    model, images = load_model("tcmoa_pyramid"), [torch.cat([a, b]) for a, b in zip(scenes(3), scenes(3, seed=5)[::-1])]
    both = model.fuse(images, task="mef")
    for index in range(2):
        alone = model.fuse([image[index : index + 1] for image in images], task="mef")
        torch.testing.assert_close(both.fused[index : index + 1], alone.fused, atol=1e-6, rtol=0)


def test_brightness_sorts_alike_in_every_order() -> None:
    images = scenes(4)
    images.append(images[0].flip(-1))
    ranks = []
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 17):
        sorted_ = by_brightness([images[i] for i in order])
        ranks.append([float(images[order[i]].double().sum()) for i in sorted_])
    assert all(rank == ranks[0] for rank in ranks)
