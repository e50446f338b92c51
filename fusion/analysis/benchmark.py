"""Parameters, operations, time and memory of a model, as text and JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch._subclasses import FakeTensorMode

from fusion.analysis import parameters
from fusion.analysis.cost import autocast_dtype, count_flops, describe_device, measure, random_batch
from fusion.api import build_model
from fusion.device import pick_device
from fusion.errors import ConfigError, FusionError
from fusion.files import markdown, write_text
from fusion.hub import REGISTRY
from fusion.job.config import check, instantiate, plain
from fusion.job.measured import record
from fusion.job.surroundings import environment
from fusion.models.base import FusionModel
from fusion.models.compiled import compile_mode

WEIGHT_FILES = (".pth", ".pt", ".ckpt", ".safetensors")


def benchmark(cfg: DictConfig) -> dict[str, Any]:
    """Measure a model; writes `benchmark.json` and `benchmark.txt` into the run folder.

    Returns:
        What is written as JSON.

    Raises:
        FusionError: mistakes the user can mend.
    """
    options = {str(key): plain(cfg[key]) for key in cfg if key not in ("model", "paths")}
    size, batch = check_numbers(options)
    autocast_dtype(options["precision"])
    compile_mode(options["compile"])
    config = check(plain(cfg.model), "model")
    if not options["load_weights"]:
        config = without_weights(config)
    device = pick_device(options["device"])
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    report: dict[str, Any] = {
        "model": options["name"],
        "target": config["_target_"],
        "size": list(size),
        "batch": batch,
    }
    report |= {key: options[key] for key in ("task", "precision", "compile", "load_weights")}
    report |= {"device": str(device), "processor": describe_device(device)}
    report |= {"threads": torch.get_num_threads(), "machine": environment()}
    model: FusionModel | None = build_model(config, None, device) if options["timing"] else None
    groups, flops = statistics(config, model, size, options)
    report["parameters"] = {
        "all": sum(group.total for group in groups),
        "frozen": sum(group.total - group.trainable for group in groups),
        "trainable": sum(group.trainable for group in groups),
        "groups": {group.name: {"all": group.total, "trainable": group.trainable} for group in groups},
        "published": parameters.published(config),
    }
    report["flops_per_pair"] = flops
    if model is not None:
        torch.manual_seed(options["seed"])
        if options["compile"]:
            model.compile_network(options["compile"])
        images = random_batch(size, batch, options["task"], device)
        report["warmup"], report["repeats"] = options["warmup"], options["repeats"]
        report["cost"] = measure(model, images, options["precision"], options["warmup"], options["repeats"]).as_dict()
    folder, text = Path(plain(cfg.paths)["output_dir"]), describe(report)
    write_text(folder / "benchmark.json", json.dumps(report, indent=2) + "\n")
    write_text(folder / "benchmark.txt", text)
    if options.get("record"):
        record(options["record"], measured_rows(str(options["name"]), report), ("model", "part"))
    print(text, end="")
    print(f"run folder: {folder}")
    return report


def measured_rows(name: str, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parameters by part, and what a forward pass costs, for a file of measured numbers."""
    counts = report["parameters"]
    parts = {"all": counts["all"], "frozen": counts["frozen"], "trainable": counts["trainable"]}
    parts |= {group: row["all"] for group, row in counts["groups"].items()}
    rows: list[dict[str, Any]] = [{"model": name, "part": part, "parameters": count} for part, count in parts.items()]
    if cost := report.get("cost"):
        rows[0] |= {key: cost[key] for key in ("pair_seconds", "pairs_per_second", "peak_bytes")}
    return rows


def check_numbers(options: Mapping[str, Any]) -> tuple[tuple[int, int], int]:
    """Height and width, and batch.

    Raises:
        ConfigError: not positive whole numbers.
    """
    size, batch = options["size"], options["batch"]
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ConfigError(f"size={size}: expected height and width in pixels: size=[480,640]")
    for key in ("batch", "threads"):
        if options[key] is not None and (type(options[key]) is not int or options[key] < 1):
            raise ConfigError(f"{key}={options[key]}: expected a whole number from 1")
    return (size[0], size[1]), batch


def without_weights(node: Any) -> Any:
    """A configuration without named weights and weight files: neither parameters nor speed depend on them."""
    if isinstance(node, list):
        return [without_weights(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {k: None if k == "weights" and _is_weights(value) else without_weights(value) for k, value in node.items()}


def _is_weights(value: Any) -> bool:
    return isinstance(value, str) and (value in REGISTRY or Path(value).suffix in WEIGHT_FILES)


def statistics(
    config: dict[str, Any], model: FusionModel | None, size: tuple[int, int], options: Mapping[str, Any]
) -> tuple[list[parameters.Group], int | None]:
    """Parameters by group, and operations per pair.

    Both are read off fake tensors, which have shapes but no memory: the largest model takes a second. A model that
    looks at values while it is built or run cannot be faked and is then run once for real.
    """
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            fake: FusionModel = instantiate(without_weights(config)).eval()
            groups = parameters.count(fake)
            batch = random_batch(size, 1, options["task"]) if options["flops"] else None
            return groups, count_flops(fake, batch) if batch else None
    except FusionError:
        raise
    except Exception:
        real = model if model is not None else build_model(config, None, "cpu")
        batch = random_batch(size, 1, options["task"], real.device) if options["flops"] else None
        return parameters.count(real), count_flops(real, batch) if batch else None


def describe(report: Mapping[str, Any]) -> str:
    """The report as text for people."""
    height, width = report["size"]
    counts, paper = report["parameters"], report["parameters"]["published"]
    header = ["parameters", "all", "trained", *(["paper (M)"] if paper else [])]
    lines = [[name, row["all"], row["trainable"], paper.get(name)] for name, row in counts["groups"].items()]
    lines += [["all", counts["all"], counts["trainable"], paper.get("all")]]
    lines += [["trainable", counts["trainable"], counts["trainable"], paper.get("trainable")]]
    lines += [["frozen", counts["frozen"], 0, paper.get("frozen")]]
    table = [[*row[:3], *([row[3] and row[3] / 1e6] if paper else [])] for row in lines]
    text = f"{report['model']} ({report['target'].rsplit('.', 1)[-1]})\n\n{markdown(header, table, 2)}"
    text += f"\n{parameters.FOOTNOTE}\n" if paper else ""
    rows: list[list[str]] = []
    if (flops := report["flops_per_pair"]) is not None:
        note = "matrix products and convolutions"
        rows.append(["operations per pair", f"{flops / 2e9:,.1f} GMACs = {flops / 1e9:,.1f} GFLOPs ({note})"])
    if cost := report.get("cost"):
        spread = f"{cost['batch_seconds_low'] * 1e3:,.1f} to {cost['batch_seconds_high'] * 1e3:,.1f}"
        rows.append(["time per pair", f"{cost['pair_seconds'] * 1e3:,.1f} ms: {cost['pairs_per_second']:.3g} pairs/s"])
        rows.append(["time per batch", f"median {cost['batch_seconds'] * 1e3:,.1f} ms, 80% within {spread} ms"])
        rows.append(["runs", f"{report['repeats']} after {report['warmup']} to warm up"])
        what = "allocated by PyTorch" if cost["memory_of"] == "device" else "resident size of the process"
        peak, start = (f"{cost[key] / 2**20:,.0f}" for key in ("peak_bytes", "start_bytes"))
        rows.append(["peak memory", f"{peak} MiB, {start} MiB before the first run ({what})"])
    rows.append(
        ["images", f"{height} x {width} pixels (height x width), batch {report['batch']}, task {report['task']}"]
    )
    mode = compile_mode(report["compile"])
    rows.append(["precision", f"{report['precision']}{f', compiled ({mode})' if mode else ''}"])
    rows.append(["processor", report["processor"]])
    machine = report["machine"]
    git = machine["git"]
    commit = f"{git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else "unknown"
    system = machine["hardware"]["platform"]
    rows.append(["software", f"torch {machine['versions'].get('torch')}, commit {commit}, {system}"])
    width_of_names = max(len(name) for name, _ in rows)
    return text + "\n" + "\n".join(f"{name:{width_of_names}}  {value}" for name, value in rows) + "\n"
