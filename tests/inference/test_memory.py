"""Large pictures within `max_memory`: tiles agree with the whole, limits are read, and a lack of memory is tried again smaller."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import fusion
from fusion.errors import ConfigError
from fusion.models import memory
from fusion.models.baselines import Average
from fusion.models.memory import LEAST_SIDE, free_memory_of, memory_limit, pixels_at_once
from fusion.models.tcmoa import band
from fusion.models.tiled import Reach, run_blended, run_tiled, side_of, tiles_of

CPU = torch.device("cpu")


def pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, height // 8 + 1, width // 8 + 1, generator=chance)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    a, b = (0.9 * smooth + 0.1 * torch.rand(2, 3, height, width, generator=chance)).clamp(0, 1)
    return a, b.mean(0, keepdim=True).expand(3, -1, -1)


EXACT = {  # size, and a limit for which tiles of about 300 pixels a side are taken
    "average": (300, 420), "maximum": (300, 420), "laplacian": (304, 416), "guided_filter": (260, 420),
    "seafusion": (170, 190), "ifcnn": (170, 190), "densefuse": (170, 190), "toar_base": (260, 290), "gifnet": (150, 170),
    "moe_fusion_saliency": (170, 190), "moe_fusion_small": (170, 190),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_tiles_agree_with_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair(*EXACT[name])
    model = fusion.load_model(name, allow_untrained=True)
    whole = model.fuse(a, b).fused
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    tiled = model.fuse(a, b, max_memory="1MiB").fused
    assert float((tiled - whole).abs().max()) < 5e-6
    assert len(seen) != 1 or name in ("toar_base", "gifnet", "moe_fusion_saliency", "moe_fusion_small")


@pytest.mark.parametrize("instruction", [None, "semantic segmentation task"])
def test_tailored_toar_uses_the_numbers_of_the_whole(instruction: str | None) -> None:
    model = fusion.load_model("toar", overrides=["model/text_encoder=hashed"], allow_untrained=True)
    for parameter in model.regulation.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    a, b = pair(220, 240)
    whole = model.fuse(a, b, instruction=instruction).fused
    tiled = model.fuse(a, b, instruction=instruction, max_memory="1MiB").fused
    assert float((tiled - whole).abs().max()) < 1e-5


def test_pyramid_tiles_agree_with_the_whole() -> None:
    model = fusion.load_model("tcmoa_pyramid", overrides=["model.backbone.levels=2", "model.weights=null"])
    model.network.bytes_per_pixel = 400
    a, b = pair(330, 420)
    whole, tiled = model.fuse(a, b).fused, model.fuse(a, b, max_memory="1MiB").fused
    assert float((tiled - whole).abs().max()) < 1e-5


def test_experts_by_pieces_agree_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fusion.load_model("tcmoa_pyramid")
    a, b = pair(66, 90)
    whole = model.fuse(a, b).fused
    monkeypatch.setattr(band, "PIECE", 100)
    assert float((model.fuse(a, b).fused - whole).abs().max()) < 1e-6


def test_blocks_by_pieces_agree_with_the_whole() -> None:
    model = fusion.load_model("tcmoa_tiny")
    a, b = pair(224, 336)
    whole = model.fuse(a, b)
    model.network.tokens_at_once = 3 * model.network.window**2
    pieces = model.fuse(a, b)
    assert float((pieces.fused - whole.fused).abs().max()) < 1e-5
    assert all(torch.allclose(p, q, atol=1e-5) for p, q in zip(pieces.prompts, whole.prompts, strict=True))
    model.network.tokens_at_once = None


def test_where_not_even_the_tokens_fit_tiles_are_blended() -> None:
    model = fusion.load_model("tcmoa_tiny")
    a, b = pair(112, 672)
    whole, blended = model.fuse(a, b).fused, model.fuse(a, b, max_memory="1MiB").fused
    assert blended.shape == whole.shape and 0 < float((blended - whole).abs().mean()) < 0.01


def test_images_of_a_batch_go_one_by_one_with_their_own_controls() -> None:
    model = fusion.load_model(
        "moe_fusion", overrides=["model/moe_fusion/attention@model.attention=boxes"], allow_untrained=True
    )
    a, b = (torch.stack([x, x.flip(-1)]) for x in pair(150, 170))
    boxes = [torch.tensor([[10.0, 10, 80, 90]]), torch.tensor([[90.0, 20, 160, 140]])]
    whole, tiled = model.fuse(a, b, boxes=boxes).fused, model.fuse(a, b, boxes=boxes, max_memory="1MiB").fused
    assert float((tiled - whole).abs().max()) < 5e-6


# Limits --------------------------------------------------------------------------------------------------------------


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory_of", lambda device: 8 << 30)
    for wanted, size in (
        ("auto", 4 << 30), (None, 4 << 30), (0.25, 2 << 30), ("0.25", 2 << 30), ("4GiB", 4 << 30), ("800 MB", 800_000_000),
        (1 << 31, 1 << 31), (1, 8 << 30),
    ):  # fmt: skip
        assert memory_limit(wanted, CPU) == size
    for wrong in ("4 apples", "most", 0, -1, True, "0GiB", 5, [1], float("nan")):
        with pytest.raises(ConfigError, match="max_memory="):
            memory_limit(wrong, CPU)
    assert pixels_at_once(1 << 40, 1000, 10**6, CPU) * 1000 <= memory.PAYS
    assert pixels_at_once(1 << 40, 1000, 10**6, torch.device("cuda")) > 10**9
    assert pixels_at_once(1, 1000, 10**6, CPU) == LEAST_SIDE**2


def test_what_is_free_is_within_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 100000\n")
    assert memory._of_container(tmp_path) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._of_container(tmp_path) is None
    monkeypatch.setattr(memory, "_of_container", lambda: 5000)
    assert free_memory_of(CPU) == 5000
    monkeypatch.setattr(memory, "_of_machine", lambda: None)
    monkeypatch.setattr(memory, "_of_container", lambda: None)
    assert free_memory_of(CPU) > 0


def test_an_unknown_limit_is_refused(door: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"not looked at")
    files = (f"a={tmp_path}/a.png", f"b={tmp_path}/b.png", f"out={tmp_path}/o.png")
    status, text = door("predict", "model=average", *files, "max_memory=lots")
    assert status == 2 and "max_memory=lots: expected" in text


def test_a_pair_that_runs_out_of_memory_is_tried_again_by_smaller_tiles(
    tmp_path: Path, door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, sizes = Average.forward, []

    def hungry(self: Average, a: Tensor, b: Tensor, *rest: Any, **more: Any) -> Any:
        sizes.append(a.shape[-2] * a.shape[-1])
        if sizes[-1] > 20_000:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: ...")
        return plain(self, a, b, *rest, **more)

    monkeypatch.setattr(Average, "forward", hungry)
    picture = np.random.default_rng(0).integers(0, 256, (300, 310), dtype=np.uint8)
    for name in ("a", "b"):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    files = (f"a={tmp_path}/a.png", f"b={tmp_path}/b.png", f"out={tmp_path}/o.png")
    status, text = door("predict", "model=average", "device=cpu", *files)
    assert status == 0, text
    assert sizes[0] == picture.size and max(sizes[1:]) <= 20_000
    assert np.array_equal(np.asarray(Image.open(tmp_path / "o.png")), picture)


# Tiles ---------------------------------------------------------------------------------------------------------------


def test_tiles_cover_a_picture_once() -> None:
    reach = Reach(5, 4)
    tiles = tiles_of(torch.empty(45, 62), side_of(30 * 30, reach), reach)
    count = torch.zeros(1, 1, 45, 62)
    for tile in tiles:
        tile.paste(torch.ones_like(tile.cut(count)), piece := torch.zeros_like(count))
        count += piece
        assert tile.rows[0] % 4 == 0 and tile.columns[0] % 4 == 0
    assert len(tiles) > 1 and bool((count == 1).all())


@pytest.mark.parametrize("size", [(40, 40), (100, 64), (101, 203)])
def test_blending_leaves_what_does_not_depend_on_the_tile(size: tuple[int, int]) -> None:
    a, b = torch.rand(1, 3, *size), torch.rand(1, 3, *size)
    assert torch.allclose(run_blended(torch.maximum, a, b, 48, 12, 4), torch.maximum(a, b), atol=1e-6)
    assert torch.equal(run_tiled(torch.maximum, a, b, tiles_of(a, 24, Reach())), torch.maximum(a, b))
