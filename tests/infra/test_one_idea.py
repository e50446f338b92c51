"""One idea in one place, and small faults that were mended with their kind."""

import doctest
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning import Trainer
from omegaconf import OmegaConf
from torch import Tensor, nn

import fusion
import fusion.api
import fusion.models.base
import fusion.models.loading
import fusion.ranks
from fusion.api import load_model
from fusion.data.batch import FusionBatch
from fusion.data.files.image import resize
from fusion.device import pick_device
from fusion.errors import ConfigError, DataError
from fusion.files import markdown
from fusion.hub import differences
from fusion.images import as_batch
from fusion.job.config import check, config_dir, instantiate
from fusion.metrics import score
from fusion.models.inputs import image_batch
from fusion.models.moe_fusion import module as moe_fusion
from fusion.models.trained import TrainedModel
from fusion.names import first_five, fold
from fusion.training.callbacks.progress import LineProgress

SMALL = [
    "model/adapter=mixture_residual",
    "model.backbone.weights=null",
    "model.weights=null",
]


@pytest.mark.parametrize(("module", "examples"), [(fusion.api, 8), (fusion.models.base, 6), (fusion.ranks, 1)])
def test_examples_of_the_api(module: ModuleType, examples: int) -> None:
    results = doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert results.attempted >= examples and results.failed == 0


def test_types_are_shipped() -> None:
    assert (Path(fusion.__file__).parent / "py.typed").is_file()


# Weight decay ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expert", ["mlp", "low_rank", "conv"])
def test_biases_of_experts_and_embeddings_do_not_decay(expert: str) -> None:
    model = load_model("tcmoa_tiny", overrides=[*SMALL, f"model/expert={expert}"])
    decaying = {id(p) for group in model.parameter_groups(0.05) if group["weight_decay"] for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    exempt = re.compile(r"(bias|\.b\d|_bias|source_embedding)$")
    assert [name for name, p in trained.items() if exempt.search(name) and id(p) in decaying] == []
    assert any("source_embedding" in name for name in trained) and any("gain_bias" in name for name in trained)
    assert all(id(p) in decaying for name, p in trained.items() if name.endswith((".w1", ".w2", ".down", ".up")))


# Abstract methods and schedules ------------------------------------------------------------------------------------------


def test_a_network_must_say_how_it_is_evaluated() -> None:
    class Incomplete(TrainedModel):
        def training_terms(self, batch: FusionBatch) -> dict[str, Tensor]:
            return {}

    with pytest.raises(TypeError, match="_evaluate"):
        Incomplete()


def test_a_method_without_an_objective_says_so() -> None:
    model = load_model("average")
    with pytest.raises(ConfigError, match="Average has no training objective"):
        model.losses(None, None)  # type: ignore[arg-type]


def test_a_schedule_need_not_know_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    class One(TrainedModel):
        def __init__(self, **base: Any) -> None:
            super().__init__(**base)
            self.layer = nn.Linear(2, 2)

        def training_terms(self, batch: FusionBatch) -> dict[str, Tensor]:
            return {}

        def _evaluate(self, batch: FusionBatch) -> Any:
            return None

        def _finish_evaluation(self, stage: str) -> None:
            return None

    def schedule(optimizer: torch.optim.Optimizer, steps_per_epoch: float, epochs: float) -> tuple[float, float]:
        return steps_per_epoch, epochs

    model = One(optimizer=partial(torch.optim.SGD, lr=0.1), scheduler=schedule)
    data = SimpleNamespace(steps_per_epoch=4, tasks=("vif", "mef"))
    trainer = SimpleNamespace(
        datamodule=data, limit_train_batches=1.0, accumulate_grad_batches=1, max_epochs=3, max_steps=-1
    )
    monkeypatch.setattr(One, "trainer", trainer)
    assert model.configure_optimizers()["lr_scheduler"]["scheduler"] == (4.0, 3.0)


def test_pretraining_can_be_tested() -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        node = compose("train", ["experiment=mae_tiny"]).model
    model = instantiate(check(OmegaConf.to_container(node, resolve=True), "model"))
    side = model.example_size[0]
    a, b = torch.rand(2, 1, 3, side, side)
    batch = {"a": a, "b": b, "task": "vif", "name": ["x"]}
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    (result,) = trainer.test(model, torch.utils.data.DataLoader([batch], batch_size=None), verbose=False)
    assert set(result) == {"test/psnr", "test/psnr_hidden"}


# Values that are refused, configurations that say what they are ------------------------------------------------------------


def test_a_wrong_down_mode_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model\.network\.down_mode=area is not one of nearest, bilinear"):
        load_model("tcmoa_tiny", overrides=["model.network.down_mode=area"])


@pytest.mark.parametrize("path", sorted(config_dir().glob("data/*.yaml")), ids=lambda path: path.stem)
def test_data_do_not_train_on_what_they_test(path: Path) -> None:
    entries = OmegaConf.to_container(OmegaConf.load(path), resolve=False).get("defaults", [])  # type: ignore[union-attr]
    sets: dict[str, set[str]] = {"train": set(), "test": set()}
    for entry in entries:
        for key, option in entry.items() if isinstance(entry, dict) else ():
            for part in sets:
                if f"@{part}." in key:
                    sets[part].add(option)
    own = OmegaConf.load(path)
    told_apart = "train" in own or "test" in own  # splits, skips and limits
    assert not sets["train"] & sets["test"] or told_apart, "train and test are the same pairs: leave train empty"


def test_data_for_testing_alone_do_not_train(door: Callable, tmp_path: Path) -> None:
    done = door("train", "model=tcmoa_tiny", "data=tno", "trainer=cpu", "logger=none", f"run_dir={tmp_path / 'run'}")
    assert done.status == 2
    assert "data.train is empty" in done.err and "+data/set@data.train.tno=tno" in done.err


# Reading once, one way of resizing, one algorithm --------------------------------------------------------------------------


def test_an_evaluation_reads_its_checkpoint_once(
    door: Callable,
    plugin: None,
    miniature: Path,
    tiny_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    assert door("train", *tiny_overrides, "trainer.max_epochs=1", f"run_dir={run}").status == 0
    read: list[str] = []
    load = torch.load

    def counted(path: Any, *arguments: Any, **options: Any) -> Any:
        read.append(str(path))
        return load(path, *arguments, **options)

    monkeypatch.setattr(torch, "load", counted)
    places = [f"a={miniature / 'val' / 'a'}", f"b={miniature / 'val' / 'b'}"]
    options = ["data=folders", "trainer=cpu", "data.num_workers=0", "evaluation.metrics=[psnr]", "contact_sheet=false"]
    done = door(
        "evaluate", f"ckpt_path={run}", *options, *(f"+{p}" for p in places), f"run_dir={tmp_path / 'out'}",
        "baselines=[]",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert len([path for path in read if path.endswith(".ckpt")]) == 1


def test_work_size_is_reached_as_data_are_resized() -> None:
    image = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    made = moe_fusion._resize(image, (20, 24))
    torch.testing.assert_close(made, resize(image, (20, 24)).clamp(0, 1), atol=1e-5, rtol=0)


def test_gifnet_forward_does_not_ask_whether_gradients_are_on() -> None:
    model = load_model("gifnet", allow_untrained=True)
    a, b = torch.rand(2, 1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = model(a, b, "vif").fused
    torch.testing.assert_close(model(a, b, "vif").fused.detach(), plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.fuse(a, b, "vif").fused, plain.clamp(0, 1), atol=1e-4, rtol=0)


def test_read_only_arrays_fuse_without_a_warning() -> None:
    array = np.zeros((16, 24, 3), np.uint8)
    array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model("average").fuse(array, array).fused.shape == (1, 3, 16, 24)


def test_metrics_and_models_take_and_refuse_the_same_images() -> None:
    gray = torch.arange(12, dtype=torch.uint8).view(3, 4)
    assert torch.equal(image_batch(gray)[:, :1] * 255, as_batch(gray, "x").float())
    for wrong in (
        torch.zeros(2, 4, 4),
        np.zeros((4, 4, 4), np.uint8),
        torch.zeros(3, 4, 4).long(),
        torch.zeros(3, 0, 4),
    ):
        said = []
        for read in (image_batch, lambda x, name: score(x, x, x, ["en"])):
            with pytest.raises(DataError) as refused:
                read(wrong, "a")
            said.append(str(refused.value))
        assert said[0] == said[1]


# Shared helpers ------------------------------------------------------------------------------------------------------------


def test_names_are_folded_and_listed_in_one_way() -> None:
    assert fold("E\u0301TUDE_1") == fold("\u00e9tude_1")
    assert first_five("abc") == "a, b, c" and first_five("abcdef") == "a, b, c, d, e, ..."


def test_differences_name_three_of_a_kind() -> None:
    own = {name: torch.zeros(1) for name in "abcde"}
    state = {"e": torch.zeros(2), "x": torch.zeros(1)}
    found = differences(own, state, may_miss=["a"])
    assert found == "missing ['b', 'c', 'd']; unexpected ['x']; of another shape e (2,) for (1,)"
    assert differences(own, {}) == "missing ['a', 'b', 'c'] and 2 more" and differences(own, own) == ""


def test_tables_take_decimals_and_alignment_by_column() -> None:
    text = markdown(["name", "x", "y"], [["m|n", 0.12345, 0.5]], decimals=[0, 2, 1])
    assert text.splitlines()[2] == "| m\\|n | 0.12 | 0.5 |"
    assert markdown(["a", "b"], [["x", "y"]], right=[False, True]).splitlines()[1] == "|-----|----:|"


def test_unknown_devices_are_refused() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device=abacus"):
        pick_device("abacus")


def test_a_run_that_stops_early_says_at_which_step(capsys: pytest.CaptureFixture[str]) -> None:
    from lightning import LightningModule

    from fusion.models.base import FusionModel  # noqa: F401  (Lightning is imported by now)

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            return self.layer(batch).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = Trainer(
        max_steps=2, logger=False, callbacks=[LineProgress()], enable_model_summary=False, accelerator="cpu",
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Net(), torch.utils.data.DataLoader(torch.ones(18, 1)))
    assert "step 2/18" in capsys.readouterr().out
