"""Checkpoints and run folders of others run nothing: each is refused in one line, and what is sound still loads."""

import copy
import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fusion import load_model
from fusion.errors import FusionError
from fusion.job.recorded import check_recorded_arguments, check_recorded_model, check_recorded_overrides
from fusion.job.resuming import resume_overrides

Door = Callable[..., Any]


@pytest.fixture(scope="module")
def hostile() -> ModuleType:
    """experiments/reliability/hostile.py."""
    path = Path(__file__).parents[2] / "experiments" / "reliability" / "hostile.py"
    spec = importlib.util.spec_from_file_location("hostile", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_recorded_model_runs_code(hostile: ModuleType, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    opened = list(hostile.checkpoints(tmp_path / "files", marker))
    assert len(opened) > 40
    for path in opened:
        with pytest.raises(FusionError) as refused:
            load_model(ckpt_path=path)
        assert path.name in str(refused.value) or "model." in str(refused.value), refused.value
        assert not marker.exists(), path


def test_no_recorded_override_is_more_than_data(hostile: ModuleType, tmp_path: Path) -> None:
    for name, lines in hostile.overrides(tmp_path, tmp_path / "marker").items():
        with pytest.raises(FusionError, match=r"run\.json"):
            check_recorded_overrides(lines, f"{name}/run.json")


@pytest.mark.parametrize(
    "line",
    [
        "seed=3", "trainer.max_epochs=3", "data.crop_size=[64,96]", "+data/set@train.x=llvip", "~callbacks.ema", "model=gifnet",
        "data.train.llvip.root='/data/my runs'", "paths.data_dir=../data", "experiment=toar/short", "name=my-run.2",
        "++model.tau=4", "data.scale={vif: [0.5, 1.0]}", "model/router=softmax", "monitor.metric=val/psnr", "logger=null",
    ],
)  # fmt: skip
def test_overrides_that_are_data_are_kept(line: str) -> None:
    assert check_recorded_overrides([line, "paths.log_dir=/elsewhere"], "run.json") == [line]


def test_modules_of_trusted_packages_may_be_imported_again(plugin: None) -> None:
    lines = ["imports=[tinyfusion]", "imports=tinyfusion", "imports=[]"]
    assert check_recorded_overrides(lines, "run.json") == lines


@pytest.mark.parametrize("link", ["train.log", ".hydra", ".hydra/config.yaml", "checkpoints/last.ckpt", "metrics.csv"])
def test_a_run_folder_is_not_written_through_links(tmp_path: Path, link: str) -> None:
    run, precious = tmp_path / "run", tmp_path / "precious"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    (run / "run.json").write_text('{"overrides": []}')
    if link == ".hydra":
        precious.mkdir()
    else:
        precious.touch()
        (run / ".hydra").mkdir()
    (run / link).unlink(missing_ok=True)
    (run / link).symlink_to(precious)
    with pytest.raises(FusionError, match="is a link, which a resumed run would write through"):
        resume_overrides([f"resume={run}"])
    (run / link).unlink()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "last.ckpt").touch()
    (run / "checkpoints" / "last.ckpt").unlink(missing_ok=True)
    (run / "checkpoints").rmdir()
    (run / "checkpoints").symlink_to(tmp_path / "disk")  # on another disk, as clusters want it
    (tmp_path / "newest").symlink_to(run)
    logs = run / "wandb" / "offline-run-1" / "logs"  # as Weights & Biases leaves them
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(tmp_path / "disk" / "last.ckpt")
    (run / "wandb" / "debug-internal.log").symlink_to("offline-run-1/logs/debug-internal.log")
    (run / "wandb" / "latest-run").symlink_to("offline-run-1")
    assert resume_overrides([f"resume={tmp_path / 'newest'}"]) == [f"resume={tmp_path / 'newest'}"]
    (run / "wandb" / "offline-run-1" / "output.log").symlink_to(tmp_path / "disk" / "last.ckpt")
    with pytest.raises(FusionError, match="output.log: is a link"):
        resume_overrides([f"resume={run}"])


def test_archives_whose_parts_lie_upon_each_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data/0", bytes(10_000))
        part = archive.infolist()[0]
        for number in range(1, 50):  # the directory names one part many times
            again = copy.copy(part)
            again.filename = f"x/data/{number}"
            archive.filelist.append(again)
    with pytest.raises(FusionError, match="grows when it is unpacked"):
        load_model(ckpt_path=path)


def test_what_is_given_anew_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "run.json").write_text('{"overrides": ["seed=1", "callbacks.last.dirpath=/mine"]}')
    with pytest.raises(FusionError, match="dirpath"):
        resume_overrides([f"resume={tmp_path}"])
    given = [f"resume={tmp_path}", "callbacks.last.dirpath=/mine"]
    assert resume_overrides(given) == ["seed=1", *given]


def test_a_foreign_run_folder_is_refused_by_the_command(
    hostile: ModuleType, door: Door, tiny_overrides: list[str], tmp_path: Path
) -> None:
    marker, sound = tmp_path / "marker", tmp_path / "sound.ckpt"
    torch.save({"state_dict": {}}, sound)
    for run in hostile.run_folders(tmp_path / "runs", marker, sound):
        done = door("train", f"resume={run}")
        assert done.status == 2 and len(done.err.strip().splitlines()) == 1, (run, done.err)
        assert not marker.exists(), run


def test_models_of_this_package_and_of_trusted_ones_load(plugin: None, tmp_path: Path) -> None:
    own = {"_target_": "tinyfusion.TinyFusion", "width": 2}
    assert check_recorded_model(own, "x.ckpt")["width"] == 2
    trained = load_model("tcmoa_tiny", overrides=["model.weights=null"])
    checkpoint: dict[str, Any] = {"state_dict": trained.state_dict()}
    trained.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "x.ckpt")
    again = load_model(ckpt_path=tmp_path / "x.ckpt")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in trained.state_dict().items())


def test_a_package_is_trusted_only_when_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSION_TRUSTED_PACKAGES", raising=False)
    with pytest.raises(FusionError, match="tinyfusion"):
        check_recorded_model({"_target_": "tinyfusion.TinyFusion"}, "x.ckpt")


def test_the_name_of_a_run_is_no_path(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "fusion": {"name": "../../../x y", "model": {"_target_": "fusion.models.baselines.Average"}}},
               tmp_path / "x.ckpt")  # fmt: skip
    assert load_model(ckpt_path=tmp_path / "x.ckpt").run_name == "__.._.._x_y"


def test_a_recorded_sweep_is_data_too(hostile: ModuleType, tmp_path: Path) -> None:
    kept = [
        "seed=1,2",
        "model.num_experts=2,4",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra.sweeper.order=random",
    ]
    assert check_recorded_arguments([*kept, "hydra.sweep.dir=/there"], "sweep.json") == kept
    for name, lines in hostile.overrides(tmp_path, tmp_path / "marker").items():
        if name not in ("sweep", "hydra_launcher"):
            with pytest.raises(FusionError, match=r"sweep\.json"):
                check_recorded_arguments(lines, f"{name}/sweep.json")
    for line in (
        "hydra.launcher.setup=[touch x]",
        "hydra.sweeper._target_=os.system",
        "model=/a,/b",
        "x=${oc.env:HOME},1",
    ):
        with pytest.raises(FusionError, match="refused"):
            check_recorded_arguments([line], "sweep.json")
