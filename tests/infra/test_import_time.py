"""Help and refusals come without PyTorch and Lightning: seconds of imports before one line of answer."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fusion.errors import ConfigError
from fusion.job import config as job_config
from fusion.job.config import check_early
from fusion.job.source import check_of, parameters_of

HEAVY = ("torch", "lightning", "torchvision", "wandb", "kornia", "timm")
SCRIPT = """
import json, runpy, sys
module, sys.argv = sys.argv[1], sys.argv[1:]
status = 0
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as stop:
    status = stop.code
print("\\n" + json.dumps({"status": status, "modules": [name for name in sys.modules if "." not in name]}))
"""


def _run(arguments: Sequence[str], folder: Path) -> tuple[int, set[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, cwd=folder, timeout=120
    )
    report = json.loads(done.stdout.splitlines()[-1])
    return report["status"] or 0, {name for name in HEAVY if name in report["modules"]}, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "score", "benchmark", "analyze", "data"])
def test_help_imports_nothing_heavy(command: str, tmp_path: Path) -> None:
    status, heavy, text = _run([f"fusion.{command}", "--help"], tmp_path)
    assert status == 0 and f"python -m fusion.{command}" in text
    assert heavy == set()


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["train", "model=tcmoa_base", "model.top_k=9"], "model.top_k=9 must lie in 1..model.num_experts=4"),
        (["train", "+trainer.max_epoch=2"], "did you mean 'trainer.max_epochs'?"),
        (["predict", "model=moe_fusion", "model.top_k=9", "a=.", "b=.", "out=c"], "model.top_k=9 must lie in 1.."),
        (["predict", "a=nowhere", "b=.", "out=c"], "nowhere: no such folder or file"),
        (["score", "a=.", "b=nowhere", "fused=.", "suite=tcmoa_mff"], "nowhere: no such folder or file"),
        (["benchmark", "model=gifnet", "model.tile=1"], "model.tile=1: expected at least 64"),
        (["train", "model=no_such"], "no 'no_such' in conf/model"),
    ],
    ids=["tcmoa", "trainer", "moe_fusion", "predict", "score", "gifnet", "unknown"],
)
def test_refusals_import_nothing_heavy(arguments: list[str], answer: str, tmp_path: Path) -> None:
    status, heavy, text = _run([f"fusion.{arguments[0]}", *arguments[1:]], tmp_path)
    assert status == 2 and answer in text
    assert heavy == set()


def test_unknown_metrics_are_refused_before_lightning(tmp_path: Path) -> None:
    status, heavy, text = _run(["fusion.train", "model=average", "evaluation.metrics=[qabff]"], tmp_path)
    assert status == 2 and "metric 'qabff' is not known" in text
    assert "lightning" not in heavy and "wandb" not in heavy


@pytest.mark.parametrize(
    "target",
    [
        "fusion.models.tcmoa.TCMoA",
        "fusion.models.gifnet.GIFNet",
        "fusion.models.moe_fusion.MoEFusion",
        "fusion.models.toar.TOAR",
        "fusion.models.mae.MAEPretraining",
        "fusion.data.FusionDataModule",
        "fusion.data.LLVIP",
        "fusion.training.warmup_cosine",
        "fusion.training.callbacks.ContactSheet",
        "torch.optim.AdamW",
        "lightning.Trainer",
    ],
)
def test_source_and_object_agree_on_parameters(target: str) -> None:
    assert parameters_of(target) == job_config._parameters(job_config.locate(target, ""))


@pytest.mark.parametrize(
    "target", ["torch.no_such", "no_such_package.Thing", "fusion.models.tcmoa.NoSuch", "torch.nn.Linear.x"]
)
def test_what_the_source_does_not_tell_is_left_open(target: str) -> None:
    assert parameters_of(target) is None and check_of(target) is None


def test_the_early_check_passes_what_the_full_check_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with nothing imported, which a process that has run other tests cannot show by itself."""
    node = {"_target_": "fusion.models.tcmoa.TCMoA", "num_experts": 4, "top_k": 2, "tau": 4}
    node |= {"backbone": {"depth": 8, "decoder_depth": 8}, "adapter": 1, "router": 1, "expert": 1, "loss": 1}
    modules = {name: module for name, module in sys.modules.items() if not name.startswith("fusion.models")}
    monkeypatch.setattr(job_config, "sys", type("sys", (), {"modules": modules}))
    check_early({"model": node})
    with pytest.raises(ConfigError, match="top_k=5"):
        check_early({"model": node | {"top_k": 5}})
    with pytest.raises(ConfigError, match="tau"):
        check_early({"model": node | {"tau": 3}})
