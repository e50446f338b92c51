"""Each callback by itself, in trainings of a few steps or with the hooks called by hand."""

import csv
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fusion.errors import ConfigError, FusionError
from fusion.models.output import FusionOutput
from fusion.moe.routing import Routing
from fusion.training.callbacks.best_epoch import BestEpoch
from fusion.training.callbacks.checkpoints import LastCheckpoint
from fusion.training.callbacks.ema import EMA
from fusion.training.callbacks.finite_guard import FiniteGuard
from fusion.training.callbacks.images import ImageLogger
from fusion.training.callbacks.loggers import MetricsCSV, wandb_logger
from fusion.training.callbacks.prediction_writer import PredictionWriter
from fusion.training.callbacks.progress import LineProgress
from fusion.training.callbacks.routing_monitor import RoutingMonitor
from fusion.training.callbacks.sheet import MARGIN
from fusion.training.callbacks.step_seed import StepSeed, step_seed


class Line(LightningModule):
    """Moves its parameters by known amounts: SGD on a constant gradient."""

    def __init__(self, gradients: list[float] | None = None) -> None:
        super().__init__()
        self.moved, self.still = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
        self.gradients = gradients
        self.evaluated: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        gradient = self.gradients[batch_idx] if self.gradients else 1.0
        return -gradient * self.moved.sum() + 0 * self.still.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated.append(self.moved[0].item())

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def loader(self, length: int) -> DataLoader[Any]:
        """As many batches as steps are wanted."""
        return DataLoader([{"task": "vif", "name": [f"pair{index}"]} for index in range(length)], batch_size=None)


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    """Trainer without decorations."""
    return partial(
        Trainer, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, num_sanity_val_steps=0, max_epochs=1, enable_checkpointing=True,
    )  # fmt: skip


def expected_ema(values: list[float], decay: float) -> float:
    """The definition, written out."""
    shadow = 0.0
    for value in values:
        shadow = decay * shadow + (1 - decay) * value
    return shadow


def test_ema_follows_its_definition_and_only_its_patterns(trainer: Any) -> None:
    model, ema = Line(), EMA(decay=0.9, patterns=["mov*"])
    trainer(callbacks=[ema]).fit(model, model.loader(4), model.loader(1))
    assert set(ema.shadow) == {"moved"}
    assert ema.shadow["moved"][0].item() == pytest.approx(expected_ema([1, 2, 3, 4], 0.9))
    assert model.moved[0] == 4 and model.evaluated == [4]


def test_ema_counts_optimiser_steps_not_batches(trainer: Any) -> None:
    model, ema = Line(), EMA(decay=0.5)
    trainer(callbacks=[ema], accumulate_grad_batches=2).fit(model, model.loader(4))
    assert ema.shadow["moved"][0].item() == pytest.approx(expected_ema([1, 2], 0.5))


def test_ema_evaluates_and_saves_averages_but_trains_on(trainer: Any, tmp_path: Path) -> None:
    model, ema = Line(), EMA(decay=0.5, eval=True)
    trainer(callbacks=[ema, LastCheckpoint(str(tmp_path))], max_epochs=2).fit(model, model.loader(2), model.loader(1))
    averages = [expected_ema([1, 2], 0.5), expected_ema([1, 2, 3, 4], 0.5)]
    assert model.evaluated == pytest.approx(averages)
    assert model.moved[0] == 4
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"]["moved"][0].item() == pytest.approx(averages[1])

    resumed, again = Line(), EMA(decay=0.5, eval=True)
    longer = trainer(callbacks=[again, LastCheckpoint(str(tmp_path))], max_epochs=3)
    longer.fit(resumed, resumed.loader(2), resumed.loader(1), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert resumed.moved[0] == 6
    assert again.shadow["moved"][0].item() == pytest.approx(expected_ema([1, 2, 3, 4, 5, 6], 0.5))

    tested, fresh = Line(), EMA(decay=0.5, eval=True)
    trainer(callbacks=[fresh]).test(
        tested, tested.loader(1), ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False
    )
    assert tested.evaluated == pytest.approx([expected_ema([1, 2, 3, 4, 5, 6], 0.5)])


def test_ema_written_back(trainer: Any) -> None:
    model = Line()
    trainer(callbacks=[EMA(decay=0.5, write_back=True)]).fit(model, model.loader(3))
    assert model.moved[0].item() == pytest.approx(expected_ema([1, 2, 3], 0.5))


def test_guard_skips_a_bad_step_and_goes_on(trainer: Any) -> None:
    model, guard = Line([1.0, math.nan, math.inf, 1.0]), FiniteGuard(patience=2)
    trainer(callbacks=[guard]).fit(model, model.loader(4))
    assert model.moved[0] == 2 and guard.skipped == 0


def test_guard_stops_and_names_the_pairs(trainer: Any) -> None:
    model = Line([1.0, math.nan, math.nan, 1.0])
    with pytest.raises(FusionError, match=r"step 2 \(task vif, pairs pair2\)"):
        trainer(callbacks=[FiniteGuard(patience=1)]).fit(model, model.loader(4))
    assert model.moved[0] == 1


def test_last_checkpoint_follows_steps_and_epochs(trainer: Any, tmp_path: Path) -> None:
    model = Line()
    broken = LastCheckpoint(str(tmp_path), every_n_train_steps=2)
    model.gradients = [1.0, 1.0, 1.0]
    with pytest.raises(IndexError):
        trainer(callbacks=[broken]).fit(model, model.loader(4))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    assert torch.load(tmp_path / "exception.ckpt", weights_only=True)["global_step"] == 3
    model.gradients = None
    trainer(callbacks=[LastCheckpoint(str(tmp_path))]).fit(model, model.loader(4))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4
    assert not (tmp_path / "exception.ckpt").exists()


def test_step_seed_depends_on_step_and_rank_alone() -> None:
    def draw(seed: int, step: int, rank: int) -> float:
        StepSeed(seed).on_train_batch_start(SimpleNamespace(global_step=step, global_rank=rank), None, None, 0)
        return torch.rand(()).item()

    with torch.random.fork_rng():
        drawn = {place: draw(*place) for place in [(0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0)]}
        assert len(set(drawn.values())) == 4
        assert draw(0, 1, 0) == drawn[0, 1, 0]
    assert 0 <= step_seed(1, 2, 3) < 2**63


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open() as file:
        return list(csv.DictReader(file))


def test_csv_merges_a_step_grows_columns_and_continues(tmp_path: Path) -> None:
    log = MetricsCSV(str(tmp_path))
    log.log_metrics({"x": 1.0}, 0)
    log.log_metrics({"y": 2.0}, 0)
    log.log_metrics({"x": 3.0}, 1)
    log.log_metrics({"z": 4.0}, 2)
    assert read(log.path)[-1]["step"] == "1"  # on disk although the run has not ended
    log.finalize("success")
    assert read(log.path) == [
        {"step": "0", "x": "1.0", "y": "2.0", "z": ""},
        {"step": "1", "x": "3.0", "y": "", "z": ""},
        {"step": "2", "x": "", "y": "", "z": "4.0"},
    ]
    with log.path.open("a") as file:
        file.write("3,9")  # half a line of a killed run
    again = MetricsCSV(str(tmp_path))
    again.log_metrics({"x": 5.0}, 1)
    again.finalize("success")
    assert [(row["step"], row["x"]) for row in read(again.path)] == [("0", "1.0"), ("1", "5.0")]


def test_wandb_modes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def mode(**options: Any) -> str:
        return wandb_logger(str(tmp_path), **options)._wandb_init["mode"]

    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode() == "disabled" and mode(mode="offline") == "offline"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert mode() == "online"
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.delenv("WANDB_IDENTITY_TOKEN_FILE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert mode() == "offline"  # no such file
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert mode() == "online"
    with pytest.raises(ConfigError, match=r"logger\.wandb\.mode=sometimes"):
        mode(mode="sometimes")


def routing(weights: Tensor) -> Routing:
    """A routing with these gates."""
    return Routing(weights=weights, importance=weights.sum(0), load=(weights > 0).sum(0).float())


def test_routing_monitor_measures_balance() -> None:
    monitor, logged = RoutingMonitor(), {}
    module: Any = SimpleNamespace(log_dict=lambda values, **_: logged.update(values))
    state: Any = SimpleNamespace(sanity_checking=False, is_global_zero=True, fast_dev_run=False)
    even = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    one = torch.tensor([[1.0, 0, 0, 0]])
    output = FusionOutput(torch.zeros(1, 3, 2, 2), routings=[routing(even), routing(one)], sites=["even", "one"])
    for _ in range(2):
        monitor.on_validation_batch_end(state, module, output, {"task": "mef"}, 0)
    monitor.on_validation_epoch_end(state, module)
    expected = {"even/importance_cv": 0, "even/entropy": 1, "even/dead": 0}
    expected |= {"one/importance_cv": math.sqrt(3), "one/entropy": 0, "one/dead": 3}
    expected |= {"importance_cv": math.sqrt(3) / 2, "entropy": 0.5, "dead": 3}
    assert logged == {f"routing/mef/{key}": pytest.approx(value, abs=1e-6) for key, value in expected.items()}
    assert monitor.latest == {("mef", "even"): [0.25] * 4, ("mef", "one"): [1, 0, 0, 0]}


def test_image_panel_has_a_row_per_pair_at_its_own_scale(tmp_path: Path) -> None:
    log = ImageLogger(str(tmp_path), pairs_per_task=2, size=32, prompt_sites=2)
    state: Any = SimpleNamespace(is_global_zero=True, sanity_checking=False, current_epoch=3, loggers=[], global_step=0)
    model: Any = SimpleNamespace(size_multiple=16, size_policy="pad")
    for task in ("vif", "mef"):
        batch = {"task": task, "a": torch.zeros(3, 3, 20, 40), "b": torch.ones(3, 3, 20, 40), "name": ["x", "y", "z"]}
        prompt = torch.full((3, 2, 2, 3), 0.25)  # of 32 x 48 pixels: the image ends inside of the last tokens
        prompt[..., 1, :] = 0.75
        output = FusionOutput(torch.full((3, 3, 20, 40), 0.5), prompts=[prompt, prompt.clone(), prompt.clone()])
        output.sites = ["one", "two", "three"]
        log.on_validation_batch_end(state, model, output, batch)
    log.on_validation_epoch_end(state, model)
    panel = Image.open(tmp_path / "epoch_0003.png")
    assert panel.width == 5 * (32 + MARGIN) + MARGIN
    assert [row.heading for row in log.latest] == ["mef   x", "mef   y", "vif   x", "vif   y"]
    assert log.latest[2].captions == ["a: visible", "b: infrared", "fused", "prompt of a, one", "prompt of a, three"]
    assert {tuple(picture.shape) for row in log.latest for picture in row.pictures} == {(3, 16, 32)}
    shown = log.latest[0].pictures[3][0]
    assert shown[:12].max() < 0.4 and shown[14:].min() > 0.6  # the border lies at 16 of 20 pixels, not at half the map


def test_best_epoch_keeps_the_numbers_of_one_epoch_and_survives_a_resume() -> None:
    for mode, expected in (("max", 1), ("min", 2)):
        watch = BestEpoch("val/q", mode)
        for epoch, (q, other) in enumerate([(0.5, 1.0), (0.7, 2.0), (0.4, 3.0), (float("nan"), 4.0), (0.7, 5.0)]):
            metrics = {"val/q": torch.tensor(q), "val/other": torch.tensor(other), "lr-x": torch.tensor(0.1)}
            state: Any = SimpleNamespace(
                sanity_checking=False, state=SimpleNamespace(fn="fit"), callback_metrics=metrics,
                current_epoch=epoch, global_step=10 * epoch,
            )  # fmt: skip
            watch.on_validation_end(state, None)  # type: ignore[arg-type]
            again = BestEpoch("val/q", mode)
            again.load_state_dict(watch.state_dict())
            watch = again
        assert (watch.best["epoch"], watch.best["step"]) == (expected, 10 * expected)
        assert watch.best["metrics"] == pytest.approx({"val/q": (0.7, 0.4)[expected - 1], "val/other": expected + 1.0})


def test_predictions_keep_name_size_and_grey(tmp_path: Path) -> None:
    writer = PredictionWriter(str(tmp_path))
    batch = {"name": ["one", "two"], "a_is_gray": [True, True], "b_is_gray": [True, False], "dataset": ["S", "S"]}
    writer.on_test_batch_end(None, None, FusionOutput(torch.rand(2, 3, 9, 7)), batch)
    first, second = (Image.open(tmp_path / "S" / f"{name}.png") for name in ("one", "two"))
    assert (first.mode, second.mode) == ("L", "RGB") and first.size == second.size == (7, 9)


def test_line_progress_says_where_it_stands(trainer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = Line()
    trainer(callbacks=[LineProgress(interval=0)], enable_progress_bar=True).fit(model, model.loader(3))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 4  # three steps and the end of the epoch
    assert "epoch 1/1  step 2/3" in lines[1] and "pairs/s" in lines[1]
