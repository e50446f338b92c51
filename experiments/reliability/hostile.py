"""Checkpoints and run folders that try to run code, and damaged ones: what nobody should have to be afraid to open.

Every one that runs code leaves the file `marker`. The campaign (`campaign.py hostile`) and the tests open them all.
"""

import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

REAL = {"_target_": "fusion.models.baselines.Average"}


class _Shell:
    """A pickle that runs a command when it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


def records(folder: Path, marker: Path) -> dict[str, Any]:
    """Recorded models by name; all but the damaged ones would leave `marker` if they were built.

    Args:
        folder: for the files that some of them need.
        marker: file that running code leaves.
    """
    touch = f"touch '{marker}'"
    hub = folder / "hub"
    hub.mkdir(parents=True, exist_ok=True)
    (hub / "hubconf.py").write_text(f"def evil(*a, **k):\n    open({str(marker)!r}, 'w').close()\n")
    evil = folder / "evil.pt"
    evil.write_bytes(pickle.dumps(_Shell(touch)))
    run = {"_target_": "torch.utils.collect_env.run", "command": touch}
    load = {"_target_": "torch.load", "f": str(evil), "weights_only": False}
    local = {"_target_": "torch.hub.load", "repo_or_dir": str(hub), "model": "evil", "source": "local"}
    tcmoa = {"_target_": "fusion.models.tcmoa.TCMoA", "num_experts": 4, "top_k": 2, "tau": 4}
    return {
        "shell": run,
        "hub": local,
        "unpickle": load,
        "router": tcmoa | {"router": run},
        "loss": tcmoa | {"loss": local},
        "adapter_in_list": tcmoa | {"adapter": [{"deep": [load]}]},
        "optimizer": REAL | {"optimizer": run},
        "partial": REAL | {"optimizer": load | {"_partial_": True}},
        "positional": REAL | {"optimizer": {"_target_": "torch.utils.collect_env.run", "_args_": [touch]}},
        "not_recursive": REAL | {"_recursive_": False, "optimizer": run},
        "system": {"_target_": "os.system", "command": touch},
        "eval": {"_target_": "builtins.eval", "_args_": [f"open({str(marker)!r}, 'w')"]},
        "popen": {"_target_": "fusion.launch.subprocess.Popen", "args": touch, "shell": True},
        "popen_job": {"_target_": "fusion.job.launch.subprocess.Popen", "args": touch, "shell": True},
        "alias": {"_target_": "fusion.config.os.system", "command": touch},
        "alias_torch": {"_target_": "fusion.hub.torch.load", "f": str(evil), "weights_only": False},
        "import": {"_target_": "fusion.config.import_module", "name": "antigravity"},
        "import_job": {"_target_": "fusion.job.config.import_module", "name": "antigravity"},
        "instantiate": {"_target_": "hydra.utils.instantiate", "_args_": [run]},
        "own_instantiate": {"_target_": "fusion.api.instantiate", "cfg": {"inner": run}},
        "get_method": {"_target_": "hydra.utils.get_method", "path": "os.system"},
        "compile": {"_target_": "torch.utils.cpp_extension.load_inline", "name": "x", "cpp_sources": ""},
        "package": {"_target_": "torch.package.PackageImporter", "file_or_buffer": str(evil)},
        "callback": {"_target_": "lightning.pytorch.callbacks.LambdaCallback", "on_fit_start": run},
        "data": {"_target_": "fusion.data.SampleData", "root": str(marker)},
        "folder": {"_target_": "fusion.callbacks.loggers.MetricsCSV", "save_dir": str(marker)},
        "function": {"_target_": "fusion.api.load_model", "ckpt_path": str(evil)},
        "private": {"_target_": "fusion.models.base.FusionModel.__init__.__globals__"},
        "resolver": REAL | {"eval_convention": "${oc.env:HOME}"},
        "target_by_resolver": {"_target_": "${oc.decode:torch.load}", "f": str(evil), "weights_only": False},
        "target_by_reference": {"_target_": "${name}", "name": "torch.utils.collect_env.run", "command": touch},
        "target_mapping": {"_target_": {"_target_": "os.system", "command": touch}},
        "module_as_model": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 2},
        "part_as_model": {"_target_": "fusion.moe.routers.SoftmaxRouter"},
        "huge": tcmoa | {"num_experts": 10**9},
        "deep": _nested(150),
        "text": "fusion.models.baselines.Average",
        "number": 7,
        "bytes": REAL | {"eval_convention": b"x"},
        "unknown_key": REAL | {"no_such_key": 1},
        "args_inside": tcmoa | {"router": {"_target_": "fusion.moe.routers.SoftmaxRouter", "_args_": [run]}},
        "partial_in_list": tcmoa | {"adapter": [{"x": [load | {"_partial_": True}]}]},
        "convert": REAL | {"_convert_": "object", "optimizer": run},
        "switch_alone": REAL | {"optimizer": {"_partial_": True, "x": run}},
        "key_by_resolver": REAL | {"${oc.env:HOME}": 1},
        "spaces": run | {"_target_": " torch.utils.collect_env.run "},
        "dunder": {"_target_": "fusion.hub.__loader__.load_module", "name": "antigravity"},
        "target_list": {"_target_": ["torch.utils.collect_env.run"], "command": touch},
        "module_data": {"_target_": "fusion.data.FusionDataModule", "train": {"x": run}},
        "data_as_part": tcmoa
        | {"router": {"_target_": "fusion.data.Folders", "a": str(marker), "b": "x", "task": "vif"}},
    }


def _nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {}
    for _ in range(depth):
        node = {"x": node}
    return REAL | {"optimizer": node}


def checkpoints(folder: Path, marker: Path) -> Iterator[Path]:
    """Files: one for each of `records`, then pickles that are code, bombs and damaged archives."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in records(folder, marker).items():
        path = folder / f"record_{name}.ckpt"
        torch.save({"state_dict": {}, "fusion": {"version": "0", "name": "../../x", "model": model}}, path)
        yield path
    touch = f"touch '{marker}'"
    sound = {"state_dict": {}, "fusion": {"model": REAL, "name": "x"}}
    bad: dict[str, Any] = {
        "pickle": _Shell(touch),
        "pickle_inside": sound | {"extra": _Shell(touch)},
        "list": [1, 2],
        "no_state": {"fusion": {"model": REAL}},
        "state_of_text": {"state_dict": {"x": "y"}, "fusion": {"model": REAL}},
        "state_of_numbers": {"state_dict": {1: torch.ones(1)}, "fusion": {"model": REAL}},
        "record_is_text": {"state_dict": {}, "fusion": "x"},
        "frozen_is_wrong": {"state_dict": {}, "fusion": {"model": REAL, "frozen": {"keys": 3}}},
        "other_weights": {"state_dict": {"x": torch.ones(1)}, "fusion": {"model": REAL}},
    }
    for name, content in bad.items():
        path = folder / f"{name}.ckpt"
        torch.save(content, path)
        yield path
    legacy = folder / "legacy.ckpt"
    legacy.write_bytes(pickle.dumps({"state_dict": _Shell(touch)}))
    yield legacy
    whole = folder / "cut.ckpt"
    torch.save(sound | {"state_dict": {"x": torch.ones(10_000)}}, whole)
    whole.write_bytes(whole.read_bytes()[:9_000])
    yield whole
    yield _bomb(folder / "bomb.ckpt")
    for name, content in {
        "empty": b"",
        "zeros": bytes(5_000),
        "text": b"weights",
        "zip": b"PK\x03\x04" + bytes(64),
    }.items():
        path = folder / f"{name}.ckpt"
        path.write_bytes(content)
        yield path


def _bomb(path: Path) -> Path:
    """An archive of PyTorch's with 256 MiB of zeros in half a MiB."""
    plain = path.with_suffix(".plain")
    torch.save({"state_dict": {"x": torch.zeros(8)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            content = source.read(part) if "/data/" not in part.filename else bytes(1 << 28)
            target.writestr(part.filename, content)
    plain.unlink()
    return path


def overrides(folder: Path, marker: Path) -> dict[str, Any]:
    """Recorded overrides of run folders by name; all but the damaged would leave `marker` or write somewhere."""
    evil = folder / "evil.yaml"
    command = f"touch {marker}"
    evil.write_text(f"_target_: torch.utils.collect_env.run\ncommand: {command}\n")
    climb = "../" * 30 + str(evil.with_suffix(""))[1:]
    node = f"{{_target_: torch.utils.collect_env.run, command: '{command}'}}"
    return {
        "hydra_callback": [f"+hydra.callbacks.x={node}"],
        "hydra_launcher": ["hydra/launcher=joblib"],
        "hydra_node": [f"++hydra={{callbacks: {{x: {node}}}}}"],
        "hydra_sweeper": [f"hydra.sweeper={node}"],
        "hydra_package": ["callbacks@hydra.callbacks=default"],
        "hydra_searchpath": [f"hydra.searchpath=[file://{folder}]"],
        "callback": [f"+callbacks.x={node}"],
        "target": ["callbacks.progress._target_=torch.utils.collect_env.run"],
        "logger": [f"+logger.x={node}"],
        "config_dir": [f"--config-dir={folder}", "model=evil"],
        "config_dir_two": ["--config-dir", str(folder), "model=evil"],
        "multirun": ["--multirun", "seed=1,2"],
        "climb": [f"+callbacks={climb}"],
        "climb_model": [f"model={climb}"],
        "absolute": [f"model={evil}"],
        "file": [f"model=file://{evil}"],
        "resolver": ["name=${oc.env:HOME}"],
        "sweep": ["seed=1,2,3"],
        "dirpath": [f"callbacks.last.dirpath={marker}"],
        "csv": [f"logger.csv.file={marker}"],
        "deletion": ["~hydra.job"],
        "newline": ["seed=1\n+hydra.verbose=true"],
        "imports": ["imports=[antigravity]"],
        "imports_text": ["imports='torch.utils.collect_env,fusion.train'"],
        "imports_added": ["+imports=[timm.models]"],
        "quoted_resolver": ["name='${oc.env:HOME}'"],
        "nested_resolver": ["+x={a: [{b: '${oc.decode:1}'}]}"],
        "partial": ["+optimizer._partial_=false"],
        "args": ["+optimizer._args_=[1]"],
        "args_inside": [f"+callbacks.x={{_target_: fusion.training.callbacks.StepSeed, _args_: [{marker}]}}"],
        "trainer": ["trainer._target_=os.system"],
        "plugin": [f"+trainer.plugins=[{node}]"],
        "images": [f"callbacks.images={{dirpath: {marker}}}"],
        "images_anew": [f"+callbacks.x={{_target_: fusion.training.callbacks.ImageLogger, dirpath: {marker}}}"],
        "nested_list": [f"+callbacks.x=[[{{y: [{node}]}}]]"],
        "global_package": ["+experiment@_global_=demo"],
        "defaults": ["+defaults=[{model: evil}]"],
        "number": [7],
        "text": "seed=1",
        "mapping": {"seed": 1},
    }


def run_folders(folder: Path, marker: Path, checkpoint: Path) -> Iterator[Path]:
    """Run folders around a sound checkpoint, each with one of `overrides` or a damaged record."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: json.dumps({"overrides": lines}) for name, lines in overrides(folder, marker).items()}
    texts |= {"broken_json": "{", "list_json": "[1]", "null_json": "null"}
    for name, text in texts.items():
        run = folder / name
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        (run / "checkpoints" / "last.ckpt").write_bytes(checkpoint.read_bytes())
        (run / "run.json").write_text(text)
        yield run
