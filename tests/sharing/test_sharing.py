"""Shared models: folder and back, from Hugging Face and to it (without a network), hostile folders, the card."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import fusion
from fusion.api import load_model
from fusion.errors import ConfigError, FusionError, WeightsError
from fusion.models.shared import CONFIG, SUMS, WEIGHTS, repository, sha256
from fusion.sharing.card import public

PYRAMID = ["model.weights=null", "model.backbone.levels=2", "model.backbone.width=4"]
SENTENCE = "find all pedestrians"
Door = Callable[..., tuple[int, str]]


def fused(model: Any, **controls: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(3, 40, 56, generator=generator) for _ in "ab")
    return model.fuse(a, b, **controls).fused


def small_pyramid() -> Any:
    model = load_model("tcmoa_pyramid", overrides=PYRAMID)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder with a small model."""
    return fusion.save_folder(small_pyramid(), tmp_path / "shared", name="mine")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder as training leaves it."""
    model = small_pyramid()
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    checkpoint: dict[str, Any] = {"state_dict": dict(model.state_dict())}
    model.run_name = "short"
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
    part = {
        "status": "finished",
        "versions": {"fusion": "0.2", "torch": "2.9"},
        "hardware": {"host": "secret-machine", "cpus": 4, "gpus": []},
        "git": {"commit": "0123456789abcdef"},
    }
    overrides = [
        "experiment=tcmoa_pyramid",
        "paths.data_dir=/home/me/data",
        "data.train.llvip.root=~/llvip",
        "trainer.max_epochs=2",
    ]
    (folder / "run.json").write_text(json.dumps({"name": "short", "overrides": overrides, "parts": [part]}))
    metrics = {"val/vif/qabf": 0.61, "val/qabf": 0.6123, "norm/weights": 70.0, "routing/vif/dead": 1.0}
    (folder / "results.json").write_text(
        json.dumps(
            {"monitor": "val/qabf", "global_step": 420, "best": {"epoch": 1, "metrics": metrics}, "metrics": metrics}
        )
    )
    (folder / "config.yaml").write_text(
        "name: short\ndata: {train: {llvip: {root: /home/me/llvip}, focus: {dataset: RealMFF}}}\n"
    )
    return folder


def resign(folder: Path) -> None:
    (folder / SUMS).write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in (CONFIG, WEIGHTS)))


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    model = small_pyramid()
    folder = fusion.save_folder(model, tmp_path / "shared", name="mine")
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, SUMS, "README.md"}
    for again in (load_model(str(folder)), load_model(ckpt_path=folder), load_model(ckpt_path=folder / WEIGHTS)):
        assert torch.equal(fused(again), fused(model)) and again.run_name == "mine"


def test_frozen_weights_and_places_of_this_machine_go_along_or_stay_away(tmp_path: Path) -> None:
    overrides = [
        "model.weights=null", "model.backbone.weights=null", "model.backbone.depth=2", "model.backbone.decoder_depth=2",
        "model.backbone.embed_dim=24", "model.backbone.decoder_embed_dim=24", "model.backbone.num_heads=2",
        "model.backbone.decoder_num_heads=2",
    ]  # fmt: skip
    source = load_model("tcmoa_tiny", overrides=overrides, allow_untrained=True)
    backbone = {
        k.removeprefix("network.backbone."): v for k, v in source.state_dict().items() if "network.backbone." in k
    }
    save_file({k: v.contiguous() for k, v in backbone.items()}, tmp_path / "private.safetensors")
    overrides[1] = f"model.backbone.weights={tmp_path / 'private.safetensors'}"
    model = load_model("tcmoa_tiny", overrides=overrides, allow_untrained=True)
    folder = fusion.save_folder(model, tmp_path / "shared")
    (tmp_path / "private.safetensors").unlink()
    assert "private" not in (folder / CONFIG).read_text() + (folder / "README.md").read_text()
    assert torch.equal(fused(load_model(str(folder))), fused(model))


def test_features_of_sentences_go_along(tmp_path: Path) -> None:
    model = load_model("toar", overrides=["model.adapted_dim=8", "model.network.blocks=2", "model.network.channels=2",
                                          "model.base_weights=null"], allow_untrained=True)  # fmt: skip
    model._has_weights = True
    expected = fused(model, instruction=SENTENCE)
    again = load_model(str(fusion.save_folder(model, tmp_path / "shared")))
    assert again.text.known().keys() == model.text.known().keys() != set()
    assert torch.equal(fused(again, instruction=SENTENCE), expected)


def test_a_run_becomes_a_folder_with_a_card_of_what_was_measured(door: Door, run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "published"
    status, text = door(
        "publish", f"run={run_folder}", "repo=me/short", "dry_run=true", f"out={out}", "licence=apache-2.0"
    )
    assert status == 0 and "dry run: nothing was uploaded to me/short" in text, text
    card = (out / "README.md").read_text()
    assert (
        "| val/qabf     | 0.6123 |" in card
        and "epoch 2" in card
        and "norm/weights" not in card
        and "routing" not in card
    )
    assert "license: apache-2.0" in card and 'load_model("hf://me/short")' in card and "420 steps" in card
    assert "train: llvip, RealMFF" in card and "trainer.max_epochs=2" in card and "commit 0123456789ab" in card
    assert "/home/me" not in card and "~/llvip" not in card and "secret-machine" not in card
    assert sha256(out / WEIGHTS) in card
    assert torch.equal(fused(load_model(str(out))), fused(load_model(ckpt_path=run_folder)))


def test_without_measurements_the_card_says_so(shared: Path) -> None:
    card = (shared / "README.md").read_text()
    assert "Nothing: neither results of a training nor an evaluation" in card and "None is stated" in card


def test_predict_takes_a_shared_model(door: Door, shared: Path, tmp_path: Path) -> None:
    from fusion.data.files.image import write_image

    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", torch.rand(3, 20, 30))
    out = tmp_path / "out.png"
    status, text = door(
        "predict", f"ckpt_path={shared}", f"a={tmp_path / 'a.png'}", f"b={tmp_path / 'b.png'}", f"out={out}"
    )
    assert status == 0 and out.is_file(), text


def test_from_hugging_face(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def download(repo: str, revision: str | None = None, allow_patterns: Any = None) -> str:
        asked.append((repo, revision, tuple(allow_patterns)))
        return str(shared)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for name in ("hf://me/mine", "me/mine", "hf://me/mine@0a1b"):
        assert load_model(name).run_name == "mine"
    assert load_model(ckpt_path="hf://me/mine").run_name == "mine"
    assert [entry[:2] for entry in asked[:3]] == [("me/mine", None), ("me/mine", None), ("me/mine", "0a1b")]
    assert set(asked[0][2]) == {CONFIG, WEIGHTS, SUMS}


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> str:
        raise OSError("no network\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(WeightsError, match=r"^hf://me/mine: cannot be downloaded \(no network\)[^\n]*$"):
        load_model("hf://me/mine")


def test_upload_sends_the_four_files(run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import huggingface_hub

    calls: list[Any] = []
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda repo, **options: calls.append((repo, options)))
    monkeypatch.setattr(huggingface_hub, "upload_folder", lambda **options: calls.append(options))
    folder = fusion.push_to_hub(run_folder, "me/short", private=False)
    assert calls[0] == ("me/short", {"private": False, "exist_ok": True})
    assert calls[1]["repo_id"] == "me/short" and calls[1]["folder_path"] == folder == run_folder / "shared"
    assert set(calls[1]["allow_patterns"]) == {CONFIG, WEIGHTS, SUMS, "README.md"}
    assert "uploaded: https://huggingface.co/me/short" in capsys.readouterr().out


def test_a_refused_upload_leaves_the_folder(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("401 unauthorized")

    monkeypatch.setattr(huggingface_hub, "create_repo", refuse)
    with pytest.raises(WeightsError, match="not uploaded.*401.*hf auth login.*folder is ready"):
        fusion.push_to_hub(run_folder, "me/short")
    assert load_model(str(run_folder / "shared")).run_name == "short"


# Folders of others -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_changed_file_is_refused_by_name(shared: Path, name: str) -> None:
    content = (shared / name).read_bytes()
    (shared / name).write_bytes(content[:-2] + b" " + content[-1:])
    with pytest.raises(WeightsError, match=rf"{name}: its sha256 is .*{SUMS} says"):
        load_model(str(shared))


@pytest.mark.parametrize(
    ("target", "extra"),
    [
        ("os.system", {}),
        ("builtins.eval", {}),
        ("fusion.job.cli.command", {}),
        ("fusion.data.SampleData", {"root": "/tmp/never"}),
        ("torch.nn.Linear", {"in_features": 1, "out_features": 1}),
    ],
)
def test_a_config_that_is_more_than_a_model_is_refused(shared: Path, target: str, extra: dict[str, Any]) -> None:
    content = json.loads((shared / CONFIG).read_text())
    content["model"] = {"_target_": target, **extra}
    (shared / CONFIG).write_text(json.dumps(content))
    resign(shared)
    with pytest.raises(WeightsError, match="refused, its record has _target_"):
        load_model(str(shared))


def test_names_of_files_in_a_config_are_never_opened(shared: Path, tmp_path: Path) -> None:
    content = json.loads((shared / CONFIG).read_text())
    content["model"]["weights"] = str(tmp_path / "trap.pth")
    (tmp_path / "trap.pth").write_bytes(b"never read")
    (shared / CONFIG).write_text(json.dumps(content))
    resign(shared)
    assert load_model(str(shared)).config["weights"] is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda folder: (folder / SUMS).unlink(), f"{SUMS}: missing"),
        (lambda folder: (folder / SUMS).write_text("nothing here"), f"{SUMS}: damaged"),
        (lambda folder: ((folder / WEIGHTS).write_bytes(b"x" * 40), resign(folder)), f"{WEIGHTS}: damaged"),
        (
            lambda folder: ((folder / CONFIG).write_text('{"format": "image-fusion/9"}'), resign(folder)),
            "expected image-fusion/1",
        ),
        (lambda folder: ((folder / CONFIG).write_text("[" * 3000), resign(folder)), f"{CONFIG}: not readable"),
    ],
)
def test_damage_is_one_line(shared: Path, change: Callable[[Path], Any], expected: str) -> None:
    change(shared)
    with pytest.raises(WeightsError, match=expected) as caught:
        load_model(str(shared))
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(shared: Path) -> None:
    state = load_file(shared / WEIGHTS)
    state.pop(next(iter(state)))
    save_file(state, shared / WEIGHTS)
    resign(shared)
    with pytest.raises(WeightsError, match="missing"):
        load_model(str(shared))


# Mistakes ----------------------------------------------------------------------------------------------------------------


def test_mistakes_of_names_are_one_line(shared: Path, run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shared model brings its configuration"):
        load_model(str(shared), overrides=["model.tau=2"])
    with pytest.raises(ConfigError, match="a run folder is given as ckpt_path"):
        load_model(str(run_folder))
    with pytest.raises(WeightsError, match="expected hf://OWNER/NAME"):
        load_model("hf://only-one-word")
    with pytest.raises(ConfigError, match="repo=one: expected OWNER/NAME"):
        fusion.push_to_hub(run_folder, "one")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="holds other files"):
        fusion.save_folder(small_pyramid(), tmp_path / "photos")
    with pytest.raises(FusionError, match="no trained weights"):
        fusion.save_folder(load_model("gifnet", overrides=["model.network.width=4"]), tmp_path / "new")


def test_names_of_repositories() -> None:
    assert repository("hf://a/b@v1") == ("a/b", "v1") and repository("a/b") == ("a/b", None)
    assert repository("tcmoa_tiny") is None and repository("/tmp") is None and repository("a/b/c") is None


def test_places_are_left_out_of_commands() -> None:
    assert [public(line) for line in ("paths.data_dir=data", "+x.y=/etc", "a.b=~/c", "model.tau=2")] == [
        "paths.data_dir=...", "+x.y=...", "a.b=...", "model.tau=2"
    ]  # fmt: skip
