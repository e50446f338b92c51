"""torchmetrics classes: means, ids, pickling, and agreement of one process with two."""

import multiprocessing as mp
import pickle
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

import fusion.metrics
from fusion.errors import ConfigError, DataError
from fusion.metrics import FusionMetric, FusionMetrics, compute, info, metric_class, names

METRICS = ["qabf", "mi@tang", "sd@vifb"]


def images(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(count, 3, 24, 20, generator=generator) for _ in range(2))
    return a, b, 0.6 * a + 0.4 * b


def test_mean_over_updates_is_the_mean_over_images():
    a, b, fused = images(5)
    metric = FusionMetrics(METRICS)
    metric.update(a[:2], b[:2], fused[:2])
    metric.update(a[2:], b[2:], fused[2:])
    expected = {name: value.mean() for name, value in compute(a, b, fused, METRICS).items()}
    assert metric.compute().keys() == expected.keys()
    for name, value in metric.compute().items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_repeated_ids_count_once_and_fill_the_table():
    a, b, fused = images(3)
    metric = FusionMetrics(METRICS)
    metric.update(a, b, fused, ids=["x", "y", "z"])
    metric.update(a[:1], b[:1], fused[:1], ids=["x"])
    values = compute(a, b, fused, METRICS)
    torch.testing.assert_close(metric.compute()["qabf"], values["qabf"].mean())
    table = metric.table()
    assert list(table) == ["x", "y", "z"]
    assert table["y"]["mi@tang"] == pytest.approx(values["mi@tang"][1].item())
    metric.reset()
    assert metric.table() == {}
    assert metric.compute()["qabf"].isnan()


def test_ids_must_match_the_images():
    a, b, fused = images(2)
    metric = FusionMetrics(METRICS)
    with pytest.raises(DataError, match="one id per image"):
        metric.update(a, b, fused, ids=["x"])
    metric.update(a, b, fused, ids=["x", "y"])
    with pytest.raises(DataError, match="all or for none"):
        metric.update(a, b, fused)


@pytest.mark.parametrize("name", names())
def test_every_metric_has_a_class_that_pickles_and_says_what_it_is(name):
    metric = pickle.loads(pickle.dumps(metric_class(name)()))
    known = info(name)
    assert metric.higher_is_better == (known.direction == "max")
    assert known.source in metric_class(name).__doc__
    a, b, fused = images(2)
    metric.update(a, b, fused)
    torch.testing.assert_close(metric.compute(), compute(a, b, fused, [name])[name].mean().double())


def test_the_package_has_every_class_by_name():
    listed = dir(fusion.metrics)
    for name in names():
        found = getattr(fusion.metrics, metric_class(name).__name__)
        assert found is metric_class(name) and issubclass(found, FusionMetric)
        assert found.__name__ in listed
    with pytest.raises(AttributeError, match="no attribute 'Qabff'"):
        _ = fusion.metrics.Qabff


def test_torchmetrics_is_imported_for_its_classes_only():
    code = "import sys, fusion.metrics as m; assert 'torchmetrics' not in sys.modules; m.Qabf; print('torchmetrics' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "True"


def test_unknown_metric_is_refused_at_construction():
    with pytest.raises(ConfigError, match="did you mean 'qabf'"):
        FusionMetrics(["qabff"])


def _rank(rank: int, port: int) -> tuple[dict[str, float], int, float]:
    """What one of two processes gets: means with ids, rows of the table, a mean without ids."""
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    try:
        a, b, fused = images(5)
        mine = [[0, 2, 4], [1, 3, 0]][rank]  # a distributed sampler repeats image 0 to give both ranks three
        with_ids, without = FusionMetrics(METRICS), FusionMetrics(METRICS)
        with_ids.update(a[mine], b[mine], fused[mine], ids=[f"image {i}" for i in mine])
        without.update(a[mine], b[mine], fused[mine])
        means = {name: value.item() for name, value in with_ids.compute().items()}
        return means, len(with_ids.table()), without.compute()["qabf"].item()
    finally:
        dist.destroy_process_group()


def test_two_processes_agree_with_one():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ProcessPoolExecutor(1, mp.get_context("spawn")) as pool:
        other = pool.submit(_rank, 1, port)
        results = [_rank(0, port), other.result(timeout=300)]
    a, b, fused = images(5)
    values = compute(a, b, fused, METRICS)
    repeated = values["qabf"][[0, 2, 4, 1, 3, 0]].mean().item()
    for means, rows, sums_only in results:
        assert rows == 5
        assert sums_only == pytest.approx(repeated)
        for name, value in means.items():
            assert value == pytest.approx(values[name].mean().item())
