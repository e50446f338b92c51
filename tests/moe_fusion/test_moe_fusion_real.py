"""MoE-Fusion by real boxes: the experiment trains what the model configuration fuses with, and its weights are exported."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from fusion.api import compose, load_model
from fusion.errors import ConfigError
from fusion.hub import read_state
from fusion.job.config import check

EXPORT = Path(__file__).parents[2] / "experiments" / "moe_fusion" / "export.py"
PARTS = ("local", "decoder", "router", "network", "num_experts", "top_k", "attention")


def export(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, arguments)])
    runpy.run_path(str(EXPORT), run_name="__main__")


def test_the_experiment_trains_the_network_of_moe_fusion_small():
    trained = check(compose("train", ["experiment=moe_fusion/real"], "model"), "model")
    used = check(compose("predict", ["model=moe_fusion_small"], "model"), "model")
    assert {key: trained[key] for key in PARTS} == {key: used[key] for key in PARTS}
    assert trained["weights"] is None and trained["loss"]["mask"] == "boxes"


def test_training_and_test_pairs_of_the_experiment_are_of_other_splits():
    for name in ("moe_fusion/real", "moe_fusion/real_detector"):
        data = check(compose("train", [f"experiment={name}"], "data"), "data")
        assert data["train"]["msrs"]["split"] == "train" and data["test"]["msrs"]["split"] == "test"
        train, val = data["train"]["roadscene"], data["val"]["roadscene"]
        assert train["skip"] == val["limit"] and train["shuffle_seed"] == val["shuffle_seed"] == 0
        assert all(part is None or part["resize"] == data["train"]["msrs"]["resize"] for part in data["test"].values())


def test_exported_weights_fuse_as_the_checkpoint_does(tmp_path, monkeypatch):
    narrow = "model.network.channels=4"
    torch.manual_seed(0)
    model = load_model("moe_fusion_small", overrides=["model.weights=null", narrow], allow_untrained=True)
    state = {key: value + 0.01 * torch.randn_like(value) for key, value in model.state_dict().items()}
    torch.save({"state_dict": state | {"attention.detector.weight": torch.zeros(3)}}, tmp_path / "last.ckpt")
    export(monkeypatch, tmp_path / "last.ckpt", tmp_path / "half.safetensors")
    found = read_state(tmp_path / "half.safetensors")
    assert found.keys() == state.keys() and {value.dtype for value in found.values()} == {torch.float16}
    model.load_state_dict(state)
    again = load_model("moe_fusion_small", overrides=[narrow, f"model.weights={tmp_path / 'half.safetensors'}"])
    a, b = torch.rand(2, 3, 40, 56)
    boxes = [torch.tensor([[4.0, 4.0, 30.0, 36.0]])]
    torch.testing.assert_close(again.fuse(a, b).fused, model.fuse(a, b).fused, atol=2e-3, rtol=0)
    assert not torch.equal(again.fuse(a, b, boxes=boxes).fused, again.fuse(a, b).fused)
    torch.save({"state_dict": {"layer.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit):
        export(monkeypatch, tmp_path / "other.ckpt", tmp_path / "none.safetensors")
    assert not (tmp_path / "none.safetensors").exists()


def test_a_judge_without_weights_is_refused_by_name():
    with pytest.raises(ConfigError, match="the weights of the detector .* give weights=FILE"):
        load_model("moe_fusion_small", overrides=["model.weights=null", "model/attention=judge"], allow_untrained=True)


def test_a_border_of_reflection_changes_the_frame_alone():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 48, 60, generator=generator)
    gates = {site: [0.5, 0.5, 0.0, 0.0] for site in ("foreground", "background", "global")}
    model = load_model("moe_fusion_small")
    assert model.border == 12
    bordered = model.fuse(a, b, gates=gates).fused
    model.border = 0
    plain = model.fuse(a, b, gates=gates).fused
    assert bordered.shape == plain.shape
    torch.testing.assert_close(bordered[..., 12:-12, 12:-12], plain[..., 12:-12, 12:-12], atol=1e-5, rtol=0)
    assert (bordered - plain)[..., :2, :].abs().max() > 1e-3
    batch = {"task": "vif"} | {key: image[None] for key, image in (("a", a), ("b", b))}
    model.train()
    frames = []
    for border in (0, 12):  # training sees pairs as they are
        model.border = border
        torch.manual_seed(1)
        frames.append(model(batch["a"], batch["b"], "vif", gates=gates).extras["luma"])
    assert torch.equal(*frames)
    with pytest.raises(ConfigError, match="model.border=-1: expected a number of pixels from 0"):
        load_model("moe_fusion_small", overrides=["model.border=-1"])
