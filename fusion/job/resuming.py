"""Going on with a run: what it goes on from, with which overrides, and whether it is still the same run."""

import os
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fusion.errors import ConfigError, WeightsError
from fusion.files import is_bomb
from fusion.job.aliases import with_present_names
from fusion.job.config import flatten
from fusion.job.recorded import check_recorded_arguments, check_recorded_overrides
from fusion.job.records import read_json
from fusion.job.resolvers import CHECKPOINTS, run_folder
from fusion.job.runs import MANIFEST, read_record
from fusion.job.sweep import PLAN

FREE_TO_CHANGE = (
    "data.val.*", "data.test.*", "data.predict.*", "*.root", "*.cache", "*num_workers", "*pin_memory",
    "*persistent_workers", "*prefetch_factor", "*limit", "*gradient_checkpointing", "model.network.stream",
)  # fmt: skip
"""Keys of `model` and `data` that do not change what a run learns: they may differ when it is resumed."""


def resume_checkpoint(resume: str | None) -> Path | None:
    """The checkpoint that `resume` (a run folder or a checkpoint) stands for.

    Raises:
        ConfigError: there is none.
    """
    if not resume:
        return None
    path = Path(resume)
    if path.suffix == ".ckpt":
        if not path.is_file():
            raise ConfigError(f"resume={resume}: no such checkpoint")
        return path
    last = path / CHECKPOINTS / "last.ckpt"
    if not last.is_file():
        if not path.is_dir():
            raise ConfigError(f"resume={resume}: no such run folder; start a new run without resume=")
        raise ConfigError(
            f"resume={resume}: no {CHECKPOINTS}/last.ckpt in it yet, so nothing to resume; start it again with run_dir={resume}"
        )
    return last


def check_links(folder: Path) -> None:
    """Refuse a run folder whose files are links: what is written into them would change files elsewhere.

    The folder itself may be a link, and so may folders in it, such as `checkpoints` on another disk, except `.hydra`. W&B keeps
    links to its logs in `wandb`, which a resumed run replaces rather than follows.

    Raises:
        ConfigError: names the link.
    """
    for place, folders, files in os.walk(folder):
        if Path(place).name == "wandb":
            folders.clear()
            continue
        for name in [*files, *(name for name in folders if name == ".hydra")]:
            path = Path(place, name)
            if path.is_symlink():
                raise ConfigError(
                    f"{path}: is a link, which a resumed run would write through; copy the folder with what its links point "
                    "to (cp -rL)"
                )


def resume_overrides(arguments: list[str]) -> list[str]:
    """Command-line arguments with the saved overrides of the run to resume added, where they are not given anew.

    `resume=FOLDER` alone is so enough to continue a run as it was started.

    Raises:
        ConfigError: there is no such run, or nothing in it to resume.
    """
    start = next((index for index, value in enumerate(arguments) if _is_override(arguments, index)), len(arguments))
    given = {_key(argument): argument for argument in arguments[start:]}
    resume = given.get("resume", "=").split("=", 1)[1].strip("\"'")
    if not resume or resume == "null":
        return arguments
    if plan := read_json(Path(resume) / PLAN):  # a sweep: its jobs go on
        check_links(Path(resume))
        recorded = plan.get("arguments")
        if isinstance(recorded, list):
            recorded = [line for line in recorded if not isinstance(line, str) or _key(line) not in given]
        again = check_recorded_arguments(recorded, str(Path(resume) / PLAN))
        place = arguments.index(given["resume"])
        again.append(f"hydra.sweep.dir={resume}")
        return ["-m", *arguments[:place], *again, *arguments[place + 1 :]]
    resume_checkpoint(resume)  # before Hydra makes folders
    check_links(Path(run_folder(resume, "")))
    saved = Path(run_folder(resume, "")) / MANIFEST
    manifest = read_record(saved) if saved.is_file() else {}
    recorded = manifest.get("overrides", [])
    if isinstance(recorded, list):
        recorded = [line for line in recorded if not isinstance(line, str) or _key(line) not in given]
    kept = check_recorded_overrides(recorded, str(saved))
    return [*arguments[:start], *kept, *arguments[start:]]


def written_overrides() -> list[str]:
    """Overrides of this job as they were written, with interpolations that are not resolved; none outside of commands."""
    if not HydraConfig.initialized():
        return []
    found = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(line) for line in found] if isinstance(found, list) else []


def given_overrides() -> list[str]:
    """The job's overrides as they are recorded: what it is, not where it goes on.

    Interpolations of keys stay as they were written, for a resumed run has its own; resolvers (`${now:...}`) are not data, so
    what they gave is recorded.
    """
    if not HydraConfig.initialized():
        return []
    lines = [
        resolved if re.search(r"\$\{[^}]*:", written) else written
        for written, resolved in zip(written_overrides(), HydraConfig.get().overrides.task, strict=True)
    ]
    return [line for line in lines if _key(line) not in ("run_dir", "resume", "force_resume")]


def _is_override(arguments: list[str], index: int) -> bool:
    after_flag = index > 0 and arguments[index - 1].startswith("-") and "=" not in arguments[index - 1]
    takes_value = after_flag and arguments[index - 1] not in ("-m", "--multirun", "-r", "--run", "--resolve")
    return "=" in arguments[index] and not arguments[index].startswith("-") and not takes_value


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~").split("@", 1)[0]


def fingerprint(config: dict[str, Any]) -> dict[str, Any]:
    """Flat `model` and `data` configuration that has to stay the same over the parts of a run."""
    flat = flatten({part: config.get(part) for part in ("model", "data")})
    set_values = {key: value for key, value in flat.items() if value != {}}
    return {key: value for key, value in set_values.items() if not any(fnmatch(key, free) for free in FREE_TO_CHANGE)}


def check_resumable(checkpoint: Path, current: dict[str, Any], force: bool) -> None:
    """Refuse to continue a run with another model or other data.

    Raises:
        WeightsError: the file is not a checkpoint of this platform.
        ConfigError: keys differ and `force` is not set.
    """
    import torch

    try:
        if is_bomb(checkpoint):
            raise WeightsError(f"{checkpoint}: refused, it grows when it is unpacked")
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{checkpoint}: not a readable checkpoint ({type(error).__name__})") from error
    _check_parts(content, checkpoint)
    before = with_present_names((content.get("fusion") or {}).get("fingerprint"))
    if not before or force:
        return
    differing = sorted(key for key in before.keys() | current.keys() if before.get(key) != current.get(key))
    if differing:
        shown = ", ".join(f"{key} (was {before.get(key)}, now {current.get(key)})" for key in differing[:8])
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise ConfigError(
            f"cannot resume {checkpoint}: {shown}{more} differ; give the same values, or force_resume=true"
        )


def _check_parts(content: Any, checkpoint: Path) -> None:
    """Refuse a checkpoint that training could not go on from."""
    expected = {
        "state_dict": dict, "loops": dict, "optimizer_states": list, "lr_schedulers": list, "epoch": int,
        "global_step": int, "callbacks": dict,
    }  # fmt: skip
    if not isinstance(content, dict):
        raise WeightsError(f"{checkpoint}: expected a checkpoint of a training, found {type(content).__name__}")
    wrong = [key for key, kind in expected.items() if not isinstance(content.get(key), kind)]
    if wrong:
        raise WeightsError(
            f"{checkpoint}: not a checkpoint that training can go on from ({', '.join(wrong)} missing or damaged); start a "
            "new run, or load the weights alone with ckpt_path="
        )
    record = content.get("fusion") or {}
    if not isinstance(record, dict) or not isinstance(record.get("fingerprint") or {}, dict):
        raise WeightsError(f"{checkpoint}: its record is damaged; start a new run")
