"""`fuse` takes what users hold; optimiser groups, score tables and frozen parts of checkpoints."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusion.errors import ConfigError, DataError, WeightsError
from fusion.models.base import FusionModel
from fusion.models.baselines import Average, Maximum
from fusion.models.checkpoint import state_digest
from fusion.models.inputs import image_batch, reflect_to_multiple
from fusion.models.output import FusionOutput
from fusion.models.scores import ScoreTable


class Picky(FusionModel):
    """Accepts multiples of 16 only, and notes its mode."""

    size_multiple = 16

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        self.norm = nn.BatchNorm2d(3)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(2, 2))
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, a: Tensor, b: Tensor, task: str, gain: float = 1.0) -> FusionOutput:
        assert a.shape[-2] % 16 == 0 and a.shape[-1] % 16 == 0
        self.modes.append((self.training, torch.is_grad_enabled()))
        return FusionOutput(gain * (a + b) / 2)


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (1, 1), (5, 40), (3, 100)])
def test_fuse_returns_the_size_it_was_given(size: tuple[int, int]) -> None:
    a, b = torch.rand(3, *size), torch.rand(3, *size)
    fused = Picky().fuse(a, b).fused
    torch.testing.assert_close(fused, ((a + b) / 2)[None])


def test_fuse_leaves_every_module_in_its_mode() -> None:
    model = Picky().train()
    model.frozen.eval()
    model.fuse(torch.rand(3, 4, 4), torch.rand(3, 4, 4))
    assert model.modes == [(False, False)]
    assert (model.training, model.norm.training, model.frozen.training) == (True, True, False)


def test_fuse_passes_controls_and_stays_in_range() -> None:
    fused = Picky().fuse(torch.ones(3, 4, 4), torch.ones(3, 4, 4), gain=2.0).fused
    assert fused.max() == 1


def test_inputs_of_all_kinds_agree() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    gray = rgb[..., 0]
    expected = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    for same in (rgb, rgb / np.float32(255), torch.from_numpy(rgb).permute(2, 0, 1), expected[0], expected):
        torch.testing.assert_close(image_batch(same), expected)
    for same in (
        gray,
        gray[..., None],
        torch.from_numpy(gray),
        torch.from_numpy(gray)[None],
        gray.astype(np.uint16) * 257,
        torch.from_numpy(gray.astype(np.uint16) * 257),
    ):
        torch.testing.assert_close(image_batch(same), expected[:, :1].expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((4, 4, 4), np.uint8), "no alpha"),
        (np.zeros((4, 4), np.int64), "uint8, uint16 or float"),
        (torch.zeros(2, 4, 4), "expected a tensor"),
        (torch.zeros(3, 4, 4, dtype=torch.long), "uint8, uint16 or float"),
        (torch.full((3, 4, 4), 255.0), "divide by 255"),
        (torch.full((3, 4, 4), torch.nan), r"in \[0, 1\]"),
        (torch.zeros(3, 0, 4), "expected a tensor"),
        ([[0.0]], "all sources in one list"),
        (0.0, "tensor or a numpy array"),
    ],
)
def test_wrong_inputs_are_named(wrong: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Average().fuse(wrong, torch.zeros(3, 4, 4))


def test_pairs_must_agree() -> None:
    with pytest.raises(DataError, match="a is 4x6 and b is 6x4"):
        Average().fuse(torch.zeros(3, 4, 6), torch.zeros(3, 6, 4))
    with pytest.raises(DataError, match="2 images and b 3"):
        Average().fuse(torch.zeros(2, 3, 4, 4), torch.zeros(3, 3, 4, 4))


def test_reflection_goes_back_and_forth() -> None:
    row = torch.tensor([[0.0, 1.0, 2.0]])
    expected = torch.tensor([0.0, 1, 2, 1, 0, 1, 2, 1, 0, 1])
    assert torch.equal(reflect_to_multiple(row, 10)[0], expected)


def test_baselines() -> None:
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(Average(weight=0.25).fuse(a, b).fused, 0.25 * a + 0.75 * b)
    assert torch.equal(Maximum().fuse(a, b).fused, torch.maximum(a, b))


class FakeTrainer:
    """What the schedule asks a trainer for."""

    def __init__(self, **values: Any) -> None:
        self.limit_train_batches, self.accumulate_grad_batches = 1.0, 1
        self.max_epochs, self.max_steps = -1, -1
        self.datamodule = None
        self.__dict__.update(values)


class FakeData:
    """A data module that knows its length."""

    steps_per_epoch, tasks = 12, ["vif", "mef", "mff"]


def test_optimizer_groups_decay_matrices_only() -> None:
    model = Picky(optimizer=partial(torch.optim.AdamW, lr=0.1, weight_decay=0.3))
    groups = model.configure_optimizers().param_groups
    assert {group["weight_decay"]: [p.shape for p in group["params"]] for group in groups} == {
        0.3: [model.scale.shape],
        0.0: [model.norm.weight.shape, model.norm.bias.shape],
    }


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"max_epochs": 5}, (12, 5)),
        ({"max_steps": 6}, (12, 0.5)),
        ({"max_epochs": 5, "max_steps": 12}, (12, 1)),
        ({"max_epochs": 5, "limit_train_batches": 4}, (4, 5)),
        ({"max_epochs": 5, "limit_train_batches": 0.5}, (6, 5)),
        ({"max_epochs": 5, "accumulate_grad_batches": 3}, (4, 5)),
    ],
)
def test_schedule_length(
    monkeypatch: pytest.MonkeyPatch, trainer: dict[str, Any], expected: tuple[float, float]
) -> None:
    seen: dict[str, Any] = {}

    def schedule(optimizer: torch.optim.Optimizer, **length: Any) -> str:
        seen.update(length)
        return "scheduler"

    model = Picky(optimizer=partial(torch.optim.SGD, lr=0.1), scheduler=schedule)
    monkeypatch.setattr(Picky, "trainer", FakeTrainer(datamodule=FakeData(), **trainer))
    assert model.configure_optimizers()["lr_scheduler"]["interval"] == "step"
    assert (seen["steps_per_epoch"], seen["epochs"], seen["hold"]) == (*expected, 3)


def test_endless_schedules_and_missing_lengths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Picky(optimizer=partial(torch.optim.SGD, lr=0.1), scheduler=lambda *_, **__: None)
    monkeypatch.setattr(Picky, "trainer", FakeTrainer(datamodule=FakeData()))
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs"):
        model.configure_optimizers()
    monkeypatch.setattr(Picky, "trainer", FakeTrainer(max_epochs=2))
    with pytest.raises(ConfigError, match="steps_per_epoch"):
        model.configure_optimizers()


def test_score_table_counts_each_image_once_and_averages_tasks_equally() -> None:
    table = ScoreTable()
    for names, task, values in ((["x", "y"], "vif", [1.0, 3.0]), (["y"], "vif", [3.0]), (["x"], "mff", [8.0])):
        batch: Any = {"task": task, "name": names}
        table.add(batch, {"psnr": torch.tensor(values)})
    rows = table.gather()
    assert [(row["dataset"], row["name"], row["psnr"]) for row in rows] == [
        ("mff", "x", 8.0),
        ("vif", "x", 1.0),
        ("vif", "y", 3.0),
    ]
    assert table.means(rows) == {"mff/psnr": 8.0, "vif/psnr": 2.0, "psnr": 5.0}


def test_digest_sees_values_names_types_and_shapes() -> None:
    state = {"a": torch.arange(6.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    variants = [
        state,
        {**state, "a": torch.arange(6.0) + torch.tensor([0, 0, 0, 0, 0, 1e-6])},
        {**state, "a": torch.arange(6.0).reshape(2, 3)},
        {**state, "b": torch.ones(2, dtype=torch.float16)},
        {"a": state["b"], "b": state["a"]},
    ]
    assert len({state_digest(variant, variant.keys()) for variant in variants}) == len(variants)
    assert state_digest(state, ["b", "a"]) == state_digest(state, ["a", "b"])


class WithBackbone(Picky):
    """Leaves its frozen part out of checkpoints."""

    def frozen_state_keys(self) -> set[str]:
        return {"frozen.weight", "frozen.bias"}

    def backbone_name(self) -> str:
        return "some-backbone"


def test_frozen_part_is_left_out_and_verified() -> None:
    first, second = WithBackbone(), WithBackbone()
    checkpoint: dict[str, Any] = {"state_dict": first.state_dict()}
    first.on_save_checkpoint(checkpoint)
    assert "frozen.weight" not in checkpoint["state_dict"] and "scale" in checkpoint["state_dict"]
    with pytest.raises(WeightsError, match="some-backbone"):
        second.on_load_checkpoint(dict(checkpoint))
    second.frozen.load_state_dict(first.frozen.state_dict())
    second._frozen_digest = None
    second.on_load_checkpoint(checkpoint)
    second.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(second.frozen.weight, first.frozen.weight)
