"""Equal shares, disjoint ranks, and a stream that depends on nothing but the seed."""

from collections import Counter
from itertools import pairwise

import pytest

from fusion.data import AlternatingBatchSampler, EvalBatchSampler, SampleKey
from fusion.data.seeds import derive_seed
from fusion.errors import ConfigError

SPANS = {"vif": range(0, 13), "mef": range(13, 18), "mff": range(18, 25)}


def sampler(**options: object) -> AlternatingBatchSampler:
    return AlternatingBatchSampler(SPANS, **{"batch_size": 2, "seed": 3, **options})  # type: ignore[arg-type]


def task_of(key: SampleKey) -> str:
    return next(task for task, span in SPANS.items() if key.index in span)


def stream(batches: list[list[SampleKey]], task: str) -> list[SampleKey]:
    return [key for batch in batches for key in batch if task_of(key) == task]


def test_tasks_alternate_with_equal_shares() -> None:
    batches = list(sampler())
    assert [{task_of(key) for key in batch} for batch in batches] == [{"vif"}, {"mef"}, {"mff"}] * 7
    assert all(len(batch) == 2 for batch in batches)


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ({}, 7),  # ceil(13 / 2)
        ({"epoch_by": "mef"}, 3),
        ({"epoch_by": "longest"}, 7),
        ({"epoch_by": "shortest"}, 3),
        ({"epoch_by": "pansharpening"}, 7),  # not there: the longest
        ({"rounds_per_epoch": 4}, 4),
        ({"world_size": 3}, 3),  # ceil(13 / 6)
        ({"batch_size": 100}, 1),
    ],
)
def test_epoch_length(options: dict, rounds: int) -> None:
    assert len(sampler(**options)) == len(list(sampler(**options))) == rounds * 3


def test_no_sample_repeats_within_a_permutation_and_permutations_differ() -> None:
    one = sampler()
    for task, span in SPANS.items():
        n = len(span)
        passes = [[one.key(task, p * n + i).index for i in range(n)] for p in range(5)]
        assert all(sorted(indices) == list(span) for indices in passes)
        assert all(first != second for first, second in pairwise(passes))


def test_every_visit_of_a_sample_has_a_seed_of_its_own() -> None:
    one = sampler()
    keys = [one.key(task, position) for task in SPANS for position in range(200)]
    assert len({key.seed for key in keys}) == len(keys)
    assert all(0 <= key.seed < 2**63 for key in keys)


@pytest.mark.parametrize(("world_size", "batch_size"), [(2, 3), (3, 2), (6, 1)])
def test_ranks_share_out_what_one_process_would_see(world_size: int, batch_size: int) -> None:
    alone = list(sampler(batch_size=6))
    ranks = [list(sampler(batch_size=batch_size, rank=r, world_size=world_size)) for r in range(world_size)]
    together = [[key for rank in ranks for key in rank[i]] for i in range(len(alone))]
    assert together == alone


def test_ranks_are_disjoint_within_a_pass() -> None:
    ranks = [list(sampler(batch_size=1, rank=r, world_size=2, rounds_per_epoch=6)) for r in range(2)]
    for task in ("vif",):  # 12 of 13 samples: all within one permutation
        seen = [{key.index for key in stream(rank, task)} for rank in ranks]
        assert not seen[0] & seen[1]
        assert len(seen[0] | seen[1]) == 12


def test_the_seed_decides_the_order_and_ranks_agree_on_the_task() -> None:
    assert list(sampler()) == list(sampler())
    assert list(sampler()) != list(sampler(seed=4))
    zero, one = (list(sampler(rank=r, world_size=2)) for r in range(2))
    assert [task_of(batch[0]) for batch in zero] == [task_of(batch[0]) for batch in one]


def test_iteration_starts_at_the_position() -> None:
    whole = [sampler().batch(i) for i in range(60)]
    one = sampler()
    assert list(one) == whole[:21]
    one.position = 8
    assert list(one) == whole[8:29]


def test_repeating_epochs() -> None:
    one = sampler(repeat_epoch=True)
    first = list(one)
    one.position = len(one)
    assert list(one) == first


def test_shares_are_equal_over_a_long_run() -> None:
    one = sampler(batch_size=3)
    counts = Counter(key.index for i in range(3 * 13 * 5) for key in one.batch(i))
    for span in SPANS.values():
        visits = [counts[index] for index in span]
        assert sum(visits) == 3 * 13 * 5
        assert max(visits) - min(visits) <= 1


def test_impossible_values_are_refused() -> None:
    for wrong in ({"batch_size": 0}, {"rounds_per_epoch": 0}):
        with pytest.raises(ConfigError):
            sampler(**wrong)
    with pytest.raises(ConfigError, match="at least one pair"):
        AlternatingBatchSampler({"vif": range(0)}, 2)


def test_derived_seeds_differ_in_every_part() -> None:
    seeds = [derive_seed(*parts) for parts in ((0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), ("0", "a", 1))]
    assert len(set(seeds)) == 5


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_evaluation_sees_everything_once_in_batches_of_one_task(world_size: int, batch_size: int) -> None:
    tasks = ["vif"] * 4 + ["mff"] * 3
    ranks = [list(EvalBatchSampler(tasks, batch_size, rank=r, world_size=world_size)) for r in range(world_size)]
    assert sorted(i for rank in ranks for batch in rank for i in batch) == list(range(7))
    assert all(len({tasks[i] for i in batch}) == 1 and len(batch) <= batch_size for rank in ranks for batch in rank)
    assert all(i % world_size == r for r, rank in enumerate(ranks) for batch in rank for i in batch)
    assert all([i for batch in rank for i in batch] == sorted(i for batch in rank for i in batch) for rank in ranks)
