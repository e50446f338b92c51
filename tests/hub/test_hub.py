"""Weights: found, strict, safe, and explained when they are unavailable."""

import pickle
import urllib.error

import pytest
import torch
from safetensors.torch import save_file

from fusion import hub
from fusion.errors import WeightsError
from fusion.layers.mae import MAE


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache and no way out."""

    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("FUSION_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "download_url_to_file", refuse)
    return tmp_path / "cache"


def tiny(**settings) -> MAE:
    return MAE(8, 14, 16, 1, 2, 16, 1, 2, **settings)


def test_without_network_the_line_says_which_file_goes_where(no_network):
    with pytest.raises(WeightsError) as error:
        hub.locate("mae_large")
    message = str(error.value)
    assert "mae_visualize_vit_large_ganloss.pth" in message and str(no_network) in message and "\n" not in message


def test_weights_that_only_people_can_fetch_say_so(no_network):
    with pytest.raises(WeightsError, match=r"cannot be downloaded.*tcmoa_large.pth from https://github.com.*TC-MoA"):
        hub.locate("tcmoa_large")


def test_unknown_names_list_the_known():
    with pytest.raises(
        WeightsError,
        match="'mae_huge': neither a file nor one of mae_tiny, tcmoa_tiny, tcmoa_pyramid, toar_base, moe_fusion_small, ",
    ):
        hub.locate("mae_huge")


def test_a_file_in_the_cache_is_found(no_network):
    no_network.mkdir()
    (no_network / "mae_visualize_vit_base.pth").write_bytes(b"x")
    assert hub.locate("mae_base") == no_network / "mae_visualize_vit_base.pth"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_round_trip_in_half_precision(tmp_path, suffix):
    source, target = tiny(), tiny(weights=str(tmp_path / f"w{suffix}"))
    state = {key: value.half() for key, value in source.state_dict().items() if "pos_embed" not in key}
    if suffix == ".pth":
        torch.save({"model": state}, target.weights)
    else:
        save_file(state, target.weights)
    hub.load_backbone(target)
    for key, value in target.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[key], atol=1e-3, rtol=1e-3)
        assert value.dtype == torch.float32


def test_the_mask_token_of_official_checkpoints_is_left_aside(tmp_path):
    path = tmp_path / "official.pth"
    torch.save({"model": tiny().state_dict() | {"mask_token": torch.zeros(1, 1, 16)}}, path)
    hub.load_backbone(tiny(weights=str(path)))


def test_missing_unexpected_and_misshapen_keys_are_named(tmp_path):
    state = tiny().state_dict()
    del state["norm.weight"]
    state["extra.weight"] = torch.zeros(1)
    state["norm.bias"] = torch.zeros(3)
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(
        WeightsError, match=r"missing \['norm.weight'\].*unexpected \['extra.weight'\].*norm.bias \(3,\) for \(16,\)"
    ):
        hub.load_backbone(tiny(weights=str(path)))


def test_a_strict_failure_changes_nothing(tmp_path):
    backbone = tiny(weights=str(tmp_path / "w.pth"))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    torch.save({key: value + 1 for key, value in before.items() if key != "norm.weight"}, backbone.weights)
    with pytest.raises(WeightsError):
        hub.load_backbone(backbone)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


class Payload:
    """What a malicious pickle would run."""

    def __reduce__(self):
        return (print, ("executed",))


def test_pickles_that_hold_code_are_refused(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"model": {"w": torch.zeros(1)}, "extra": Payload()}, path)
    with pytest.raises(WeightsError, match="refused, it holds more than weights"):
        hub.read_state(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1, 2])])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_named(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"broken{suffix}"):
        hub.read_state(path)


def test_save_weights_leaves_no_half_file(tmp_path):
    path = tmp_path / "w.safetensors"
    digest = hub.save_weights({"w": torch.ones(2)}, path)
    assert len(digest) == 64 and [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    assert torch.equal(hub.read_state(path)["w"], torch.ones(2))


def test_shipped_and_first_seen_weights_are_checked(no_network, tmp_path):
    for name in ("mae_tiny", "tcmoa_tiny", "toar_base", "moe_fusion_small", "toar_tailored"):
        assert hub.verify(hub.locate(name), name, hub.REGISTRY[name]) == hub.REGISTRY[name].sha256
    no_network.mkdir()
    path = no_network / "mae_visualize_vit_base.pth"
    path.write_bytes(b"x")
    assert hub.locate("mae_base") == path and (no_network / f"{path.name}.sha256").is_file()
    path.write_bytes(b"another file")
    with pytest.raises(WeightsError, match=r"mae_base.*sha256.*when it was first used"):
        hub.locate("mae_base")
    (no_network / "Final.model").write_bytes(b"not the published one")
    with pytest.raises(WeightsError, match=r"gifnet.*the published file bfc1dfef"):
        hub.locate("gifnet")
