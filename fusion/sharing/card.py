"""The model card: what was measured, with what data and command, what it does not say, how to load it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fusion.files import markdown, number
from fusion.job.paths import is_path_key
from fusion.reporting.runs import Run
from fusion.version import __version__

_NOT_SCORES = re.compile(r"^(routing|norm|gate|gates|gradients?|lr|time|epoch|step|train)\b")


@dataclass
class About:
    """What a card says of a model.

    Attributes:
        name: of the model.
        kind: its class.
        tasks: it knows by name; empty where it has one way for all.
        parameters: number of weights.
        licence: identifier, such as "apache-2.0"; None: not stated.
        notes: text of the author.
        run: the run that trained it, where there is one.
        evaluation: an evaluation of it, where there is one.
        sums: SHA-256 by file name.
    """

    name: str
    kind: str
    tasks: tuple[str, ...] = ()
    parameters: int = 0
    licence: str | None = None
    notes: str | None = None
    run: Run | None = None
    evaluation: Run | None = None
    sums: dict[str, str] = field(default_factory=dict)


def model_card(about: About, repo: str | None) -> str:
    """Markdown of the card, with the front matter that Hugging Face reads.

    Args:
        about: what is known.
        repo: `owner/name`, for the lines that load it.
    """
    front = ["---", "library_name: image-fusion", "pipeline_tag: image-to-image", "tags:", "- image-fusion"]
    front += [f"- {task}" for task in about.tasks]
    if about.licence:
        front.append(f"license: {about.licence}")
    place = repo or "FOLDER"
    tasks = f" It knows the tasks {', '.join(about.tasks)}." if about.tasks else ""
    parts = [
        "\n".join([*front, "---"]),
        f"# {about.name}",
        f"A {about.kind} of the image-fusion platform, version {__version__}: two images of one scene become one. "
        f"It has {about.parameters:,} weights.{tasks}",
        *([about.notes] if about.notes else []),
        _loading(place, about),
        "## Measured",
        *_measured(about),
        "## Training",
        *_training(about.run),
        "## Limits",
        _limits(about),
        "## Licence",
        about.licence or "None is stated: ask the author before you use it for more than looking at it.",
        "## Files",
        markdown(["file", "sha256"], [[name, digest] for name, digest in about.sums.items()]).strip(),
    ]
    return "\n\n".join(parts) + "\n"


def _loading(place: str, about: About) -> str:
    task = about.tasks[0] if about.tasks else "vif"
    reference = f"hf://{place}" if "/" in place else place
    return (
        f"## Use\n\nIt needs the Python package `image-fusion`, version {__version__} or newer.\n\n"
        f'```python\nfrom fusion import load_model\n\nmodel = load_model("{reference}")\n'
        f'output = model.fuse("a.png", "b.png", task="{task}")\noutput.save("fused.png")\n```\n\n'
        f"```bash\npython -m fusion.predict ckpt_path={reference} a=a.png b=b.png out=fused.png task={task}\n```"
    )


def _measured(about: About) -> list[str]:
    parts = []
    if about.run is not None:
        epoch, values = about.run.best()
        rows = [[key, value] for key, value in sorted(values.items()) if _is_score(key, value)]
        if rows:
            when = f" of epoch {epoch}" if epoch is not None else ""
            parts += [f"Means over the pairs, at the checkpoint{when}:", markdown(["metric", "value"], rows).strip()]
    if about.evaluation is not None and about.evaluation.summary:
        header = list(about.evaluation.summary[0])
        rows = [[row.get(key) for key in header] for row in about.evaluation.summary]
        parts += ["An evaluation of its own:", markdown(header, rows).strip()]
    for run in (about.run, about.evaluation):
        if run is not None and parts and (line := _where(run)):
            parts.append(line)
    return parts or ["Nothing: neither results of a training nor an evaluation came with it."]


def _is_score(key: str, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not _NOT_SCORES.match(key)


def _where(run: Run) -> str:
    """Hardware, versions and commit of a run; no name of a machine."""
    part = run.part
    hardware, versions = part.get("hardware") or {}, part.get("versions") or {}
    device = ", ".join(hardware.get("gpus") or []) or (f"{hardware['cpus']} CPU cores" if hardware.get("cpus") else "")
    commit = (part.get("git") or {}).get("commit")
    known = [device, f"version {versions['fusion']}" if versions.get("fusion") else ""]
    known += [
        f"PyTorch {versions['torch']}" if versions.get("torch") else "",
        f"commit {commit[:12]}" if commit else "",
    ]
    known = [text for text in known if text]
    return f"Measured with {', '.join(known)}." if known else ""


def _training(run: Run | None) -> list[str]:
    if run is None:
        return ["Not recorded: the model was given without its run."]
    parts = []
    sets = data_sets(run.config)
    if sets:
        parts.append(f"Data: {'; '.join(sets)}.")
    overrides = run.manifest.get("overrides")
    lines = [public(str(line)) for line in overrides] if isinstance(overrides, list) else []
    command = " ".join(["python -m fusion.train", *lines])
    parts.append(f"Command (folders left out):\n\n```bash\n{command}\n```")
    epoch, _ = run.best()
    length = [
        f"best at epoch {epoch}" if epoch is not None else "",
        f"{number(run.results['global_step'])} steps" if run.results.get("global_step") else "",
    ]
    length = [text for text in length if text]
    if length:
        parts.append(f"Length: {', '.join(length)}.")
    return parts


def data_sets(config: Mapping[str, Any]) -> list[str]:
    """Names of the data sets of a run by part, such as "train: llvip, mff"; no folders."""
    found = []
    data = config.get("data")
    for part in ("train", "val", "test"):
        sets = data.get(part) if isinstance(data, Mapping) else None
        if isinstance(sets, Mapping) and sets:
            names = [
                str(item.get("dataset") or key) if isinstance(item, Mapping) else str(key) for key, item in sets.items()
            ]
            found.append(f"{part}: {', '.join(names)}")
    return found


def public(override: str) -> str:
    """An override without folders and files of the machine it was given on."""
    key, equals, value = override.partition("=")
    private = is_path_key(key.lstrip("+~")) or re.match(r"['\"]?(~|/|[A-Za-z]:\\|\.{1,2}/)", value)
    return f"{key}=..." if equals and private else override


def _limits(about: About) -> str:
    lines = []
    if about.run is not None and any(key.startswith("val/") for key in about.run.best()[1]):
        lines.append(
            "- The numbers are of the validation part, which chose the checkpoint: on other pictures it may do worse."
        )
    if about.tasks:
        lines.append(f"- Other tasks than {', '.join(about.tasks)} borrow a router or are refused.")
    lines.append("- Sources have to lie on top of each other; a pair that does not is not corrected.")
    lines.append("- A fused picture is no measurement: temperatures and doses are read from the sources.")
    return "\n".join(lines)
