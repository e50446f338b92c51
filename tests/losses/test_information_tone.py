"""Soft entropies against counted ones, tone terms on pictures whose fault is known; gradients of all of them."""

import pytest
import torch

from fusion import losses as L
from fusion.metrics import score

GENERATOR = torch.Generator().manual_seed(0)
A, B = (
    torch.nn.functional.interpolate(torch.rand(2, 1, 12, 12, generator=GENERATOR), 96, mode="bicubic").clamp(0, 1)[:, 0]
    for _ in "ab"
)


def test_soft_entropy_follows_the_counted_one():
    values = []
    for contrast in (0.2, 0.5, 1.0):
        picture = 0.5 + contrast * (A - 0.5)
        counted = score(picture[0], picture[0], picture[0], ["en"])["en"]
        values.append((L.soft_entropy(picture)[0].item(), counted))
    differences = [counted - soft for soft, counted in values]
    assert values[0][0] < values[1][0] < values[2][0]
    assert max(differences) - min(differences) < 0.35  # 32 linear bins against 256: nearly a constant


def test_soft_mutual_information_is_large_for_a_source_and_small_for_noise():
    own = L.soft_mutual_information(A, A, A)
    noise = torch.rand(A.shape, generator=torch.Generator().manual_seed(1))
    assert (own > 4 * L.soft_mutual_information(noise, A, A)).all()
    assert (L.soft_mutual_information((A + B) / 2, A, B) < L.soft_mutual_information(A, A, B)).all()


def test_soft_cross_entropy_is_zero_for_equal_histograms():
    assert L.soft_cross_entropy(A, A, A).abs().max() < 0.01
    assert (L.soft_cross_entropy(A * 0.5, A, A) > 0.3).all()


def test_soft_histograms_add_up_whatever_comes_in():
    from fusion.losses.information import soft_levels

    levels = soft_levels(torch.tensor([[[-1.0, 0.0, 0.5, 1.0, 2.0]]]))
    torch.testing.assert_close(levels.sum(-1), torch.ones(1, 5))
    torch.testing.assert_close(levels[0, [0, 4]], levels[0, [1, 3]])


SOURCES = torch.stack([A, B], dim=1)


def test_tone_terms_are_zero_where_nothing_is_wrong():
    mean = SOURCES.mean(1, keepdim=True)
    assert L.roughness(torch.full((1, 2, 5, 5), 0.5)) == 0
    assert L.out_of_range(mean, SOURCES) == 0
    assert L.tone_distance(L.salient_mean(SOURCES), SOURCES) == 0
    assert L.dull_targets(B[:, None], B[:, None]) == 0
    assert L.inverted_tone(mean, SOURCES) == 0
    brighter = 0.2 + 0.5 * SOURCES.amax(1, keepdim=True)
    assert L.inverted_tone(brighter, SOURCES, sides=(8,)) == 0
    assert (
        L.inverted_tone(brighter, SOURCES) < 1e-6
    )  # the mean of the brighter pixels is not that of the brighter means


def test_tone_terms_see_their_fault():
    flips = (torch.arange(8) % 2).float().expand(1, 2, 8, 8)
    assert L.roughness(flips) == 1
    dark = torch.zeros_like(A)[:, None]
    assert L.out_of_range(dark, SOURCES) > 0.01
    assert L.out_of_range(dark + 1, SOURCES) > 0.01
    hot = torch.full((1, 1, 32, 32), 0.2)
    hot[..., 10:14, 10:14] = 1.0
    lost = hot.clamp(max=0.5)
    assert L.dull_targets(lost, hot) > 3 * L.dull_targets(hot * 0.9, hot)


def test_a_dark_cloud_on_a_saturated_wall_is_inverted_tone():
    """The right half is white in one exposure and black in the other, the left half just below white, and black."""
    sources = torch.zeros(1, 2, 64, 64)
    sources[:, 0, :, :32], sources[:, 0, :, 32:] = 0.8, 1.0
    cloud, wall = sources[:, :1].clone(), sources.mean(1, keepdim=True)
    cloud[..., 32:] = 0.1
    assert L.inverted_tone(wall, sources) == 0
    assert L.inverted_tone(cloud, sources) > 0.01
    assert L.inverted_tone(cloud.flip(-1), sources.flip(-1)) == L.inverted_tone(cloud, sources)
    assert L.inverted_tone(cloud.transpose(-2, -1), sources.transpose(-2, -1)) == L.inverted_tone(cloud, sources)
    opposed = torch.stack([sources[:, 0], 1 - sources[:, 0]], dim=1)  # the sources disagree: either is right
    assert L.inverted_tone(cloud, opposed) == 0


def test_a_cloud_with_soft_borders_counts_as_one_with_hard_ones():
    """From square to square of 8 pixels it changes by less than what counts as a difference; as a whole it is a black cloud."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 256), torch.linspace(-1, 1, 384), indexing="ij")
    away = (1.5 * x.square() + y.square()).sqrt()
    hard, soft = (away < 0.6).float(), (1 - away).clamp(0, 1)
    sources = torch.stack([0.8 + 0.2 * soft, 0 * soft]).expand(1, 2, -1, -1)  # brightest in the middle, or black
    found = {
        name: {sides: L.inverted_tone((0.7 - 0.5 * cloud)[None, None], sources, sides) for sides in ((8,), (8, 16, 32))}
        for name, cloud in (("hard", hard), ("soft", soft))
    }
    assert found["soft"][8, 16, 32] > 2 * found["soft"][8,]
    assert found["soft"][8, 16, 32] / found["hard"][8, 16, 32] > 1.3 * found["soft"][8,] / found["hard"][8,]
    assert L.inverted_tone(0.4 + 0.3 * sources[:, :1], sources) == 0


def test_tone_terms_take_pictures_smaller_than_their_windows():
    tiny = torch.rand(1, 2, 3, 5, generator=torch.Generator().manual_seed(3))
    assert L.inverted_tone(tiny[:, :1], tiny) == 0


@pytest.mark.parametrize(
    "term",
    [
        lambda f: L.soft_entropy(f[:, 0]).sum(),
        lambda f: L.soft_mutual_information(f[:, 0], A.to(f), B.to(f)).sum(),
        lambda f: L.soft_cross_entropy(f[:, 0], A.to(f), B.to(f)).sum(),
        lambda f: L.tone_distance(f, SOURCES.to(f)),
        lambda f: L.out_of_range(f - 0.3, SOURCES.to(f)),
        lambda f: L.dull_targets(f * 0.5, B[:, None].to(f)),
        lambda f: L.inverted_tone(1 - f, SOURCES.to(f)),
    ],
)
def test_gradients_are_those_of_differences(term):
    fused = SOURCES.mean(1, keepdim=True).double().requires_grad_()
    (gradient,) = torch.autograd.grad(term(fused), fused)
    direction = torch.randn(fused.shape, generator=torch.Generator().manual_seed(2)).double()
    step = 1e-6
    with torch.no_grad():
        numeric = (term(fused + step * direction) - term(fused - step * direction)) / (2 * step)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=2e-2, atol=1e-6)
