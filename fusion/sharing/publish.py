"""Write a model as a folder for others, and upload it to Hugging Face."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from fusion.api import load_model
from fusion.errors import ConfigError, FusionError, WeightsError
from fusion.files import write_text
from fusion.hub import save_weights
from fusion.job.config import first_line
from fusion.job.recorded import check_recorded_model
from fusion.models.base import FusionModel
from fusion.models.checkpoint import RECORD
from fusion.models.shared import CONFIG, FORMAT, SUMS, WEIGHTS, flattened, is_shared, sha256, without_files
from fusion.reporting.runs import Run, read_run
from fusion.sharing.card import About, model_card
from fusion.version import __version__

CARD = "README.md"
_REPO = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def publish(cfg: DictConfig) -> Path:
    """Command `python -m fusion.publish`: see `push_to_hub`."""
    return push_to_hub(
        cfg.run,
        cfg.repo,
        folder=cfg.out,
        ckpt_path=cfg.ckpt_path,
        evaluation=cfg.evaluation,
        name=cfg.name,
        licence=cfg.licence,
        notes=cfg.notes,
        private=cfg.private,
        dry_run=cfg.dry_run,
    )


def push_to_hub(
    source: FusionModel | str | Path,
    repo: str | None,
    *,
    folder: str | Path | None = None,
    ckpt_path: str | Path | None = None,
    evaluation: str | Path | None = None,
    name: str | None = None,
    licence: str | None = None,
    notes: str | None = None,
    private: bool = True,
    dry_run: bool = False,
) -> Path:
    """Write a model as a folder (`save_folder`) and upload it to Hugging Face.

    Args:
        source: a run folder of training, or a model.
        repo: `owner/name`; made if it does not exist. None: only the folder is written.
        folder: where; None: `shared` in the run folder, or a folder of the repository's name here.
        ckpt_path: of the run; None: its best checkpoint, else its last.
        evaluation: folder of an evaluation of the model (`python -m fusion.evaluate`), whose table the card shows.
        name: of the model; None: the run's.
        licence: identifier as Hugging Face knows them, such as "apache-2.0"; None: the card says that none is stated.
        notes: text for the card.
        private: whether a repository that is made here is private.
        dry_run: write the folder and upload nothing.

    Returns:
        The folder.

    Raises:
        ConfigError: a name that is no repository, or a source that cannot be shared.
        WeightsError: the folder does not fuse as the model does, or the upload failed.
    """
    if repo is not None and not _REPO.fullmatch(str(repo)):
        raise ConfigError(f"repo={repo}: expected OWNER/NAME, as in a repository's address on Hugging Face")
    run = None
    if isinstance(source, FusionModel):
        model = source
        place = Path(folder) if folder is not None else Path(str(repo or name or "model").rsplit("/", 1)[-1])
    else:
        run = read_run(Path(source))
        model = load_model(ckpt_path=ckpt_path or source)
        place = Path(folder) if folder is not None else Path(source).expanduser() / "shared"
    found = None if evaluation is None else read_run(Path(evaluation), option="evaluation")
    written = save_folder(model, place, repo=repo, run=run, evaluation=found, name=name, licence=licence, notes=notes)
    size = sum(path.stat().st_size for path in written.iterdir()) / 1e6
    print(f"{written}: {CONFIG}, {WEIGHTS}, {SUMS}, {CARD} ({size:.1f} MB); read back, it fuses as the model does")
    if repo is None:
        print("nothing was uploaded: give repo=OWNER/NAME")
    elif dry_run:
        print(f"dry run: nothing was uploaded to {repo}")
    else:
        print(f"uploaded: {_upload(written, repo, private)}")
    return written


def save_folder(
    model: FusionModel,
    folder: str | Path,
    *,
    repo: str | None = None,
    run: Run | None = None,
    evaluation: Run | None = None,
    name: str | None = None,
    licence: str | None = None,
    notes: str | None = None,
) -> Path:
    """Write `config.json`, `model.safetensors`, `SHA256SUMS` and the model card, and try that the folder loads.

    All weights are inside, also frozen ones: no file of this machine is named.

    Args:
        model: with trained weights.
        folder: made if it is missing; a shared model that is in it already is replaced.
        repo, licence, notes: for the card, see `push_to_hub`.
        run: that trained it.
        evaluation: of it.
        name: of the model; None: of its run, else its class.

    Returns:
        The folder.

    Raises:
        ConfigError: a model without weights or configuration, or a folder that holds something else.
        WeightsError: the folder does not fuse as the model does.
    """
    folder = Path(folder).expanduser()
    if not isinstance(model, FusionModel):
        raise ConfigError(f"{type(model).__name__} does not fuse images; share a model that load_model gave")
    model.refuse_untrained()
    if model.config is None:
        raise ConfigError(
            f"{type(model).__name__} has no configuration to share: build it with load_model, or give its run"
        )
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not is_shared(folder))):
        raise ConfigError(f"{folder}: holds other files; choose an empty or new folder")
    config = check_recorded_model(without_files(model.config), "the model")
    tensors = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    title = name or model.run_name or type(model).__name__
    about = {
        "format": FORMAT,
        "version": __version__,
        "name": title,
        "model": config,
        "extras": flattened(_extras(model), tensors),
    }
    (folder / SUMS).unlink(missing_ok=True)  # until all is written, the folder is no model
    save_weights(tensors, folder / WEIGHTS, {"format": "pt"})
    write_text(folder / CONFIG, json.dumps(about, indent=2) + "\n")
    sums = {file: sha256(folder / file) for file in (CONFIG, WEIGHTS)}
    tasks = tuple(getattr(model, "tasks", ()))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = About(title, type(model).__name__, tasks, parameters, licence, notes, run, evaluation, sums)
    write_text(folder / CARD, model_card(facts, repo))
    write_text(folder / SUMS, "".join(f"{digest}  {file}\n" for file, digest in sums.items()))
    _try(model, folder)
    return folder


def _extras(model: FusionModel) -> dict[str, Any]:
    """What a checkpoint of the model holds beside its weights, such as features of the sentences it knows."""
    checkpoint: dict[str, Any] = {"state_dict": {}}
    model.on_save_checkpoint(checkpoint)
    return {key: value for key, value in checkpoint.items() if key not in ("state_dict", RECORD, "latest")}


def _try(model: FusionModel, folder: Path) -> None:
    """Refuse a folder whose model makes other pictures."""
    again = load_model(str(folder.resolve()), device=model.device)
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, *model.example_size, generator=generator) for _ in range(2))
    try:
        expected = model.fuse(a, b).fused
    except (FusionError, RuntimeError, ValueError) as error:  # needs more than two pictures, or larger ones
        print(f"not tried on a made-up pair ({first_line(error):.100})")
        return
    if not torch.equal(expected, again.fuse(a, b).fused):
        raise WeightsError(f"{folder}: read back, it does not fuse as the model does; please report this")


def _upload(folder: Path, repo: str, private: bool) -> str:
    import huggingface_hub

    try:
        huggingface_hub.create_repo(repo, private=private, exist_ok=True)
        files = [CONFIG, WEIGHTS, SUMS, CARD]
        info = huggingface_hub.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=files, commit_message=f"image-fusion {__version__}"
        )
    except Exception as error:  # errors of HTTP, of rights, of names
        raise WeightsError(
            f"{repo}: not uploaded ({first_line(error):.200}); log in with `hf auth login` as somebody who may write there; the "
            f"folder is ready in {folder}"
        ) from error
    return str(getattr(info, "commit_url", None) or f"https://huggingface.co/{repo}")
