"""Random weights under the released names, and the network they make."""

import pytest
import torch

from fusion.models.gifnet.convert import convert_official
from fusion.models.gifnet.network import GIFNetNetwork

DIM = 98
BRANCH = "extractor_multask.SwinTransformerSpecific."


def official_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released checkpoint, written down from its list of keys."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, channels: int, size: int = 1, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (out, channels, size, size)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    for index, channels in enumerate((2, 34, 66)):
        conv(f"getSharedFeatures.conv_{index + 1}.conv2d", 32, channels, 3)
    for name, first in (("decoder_rec.decoder", DIM), ("cnnDecoder.decoder", 128)):
        for place, (channels, out) in zip((1, 4, 7, 10), ((first, 64), (64, 32), (32, 16), (16, 1)), strict=True):
            conv(f"{name}.{place}", out, channels, 3)
    conv("cnnDecoder.fuseComplementFeatures.mlp.0", DIM, 2 * DIM, bias=False)
    conv("cnnDecoder.fuseComplementFeatures.mlp.2", 128, DIM, bias=False)
    for name in ("patch_embed_ivif.proj", "patch_embed_mfif.proj", "patch_unembed.proj.0"):
        conv(BRANCH + name, DIM, DIM, 3)
    for index in range(2):
        block = f"{BRANCH}layer1.blocks.{index}."
        shapes[f"{block}attn.attn.relative_positions"] = (64, 64, 2)
        shapes |= {f"{block}attn.attn.meta.0.weight": (256, 2), f"{block}attn.attn.meta.0.bias": (256,)}
        shapes |= {f"{block}attn.attn.meta.2.weight": (2, 256), f"{block}attn.attn.meta.2.bias": (2,)}
        for kind in ("", "_mfif"):
            for part in ("weight", "bias"):
                shapes[f"{block}norm1{kind}.{part}"] = (1, DIM, 1, 1)
            conv(f"{block}norm1{kind}.meta1", DIM, 1)
            conv(f"{block}norm1{kind}.meta2", DIM, 1)
            conv(f"{block}attn.QK{kind}", 2 * DIM, DIM)
            conv(f"{block}attn.V{kind}", DIM, DIM)
            conv(f"{block}attn.proj{kind}", DIM, DIM)
            conv(f"{block}attn.conv{kind}", DIM, 1, 5)
            conv(f"{block}mlp{kind}.mlp.0", 2 * DIM, DIM)
            conv(f"{block}mlp{kind}.mlp.2", DIM, 2 * DIM)
    for name in ("weights", "weights_mfif"):
        shapes |= {f"{BRANCH}layer1.{name}.{index}": (1,) for index in range(2)}
    return shapes


@pytest.fixture(scope="session")
def official_state() -> dict[str, torch.Tensor]:
    """A checkpoint as the released code would save it, with random weights that keep the signal's size."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in official_shapes().items():
        fan = torch.Size(shape[1:]).numel() if len(shape) > 1 else 1
        scale = fan**-0.5 if name.endswith("weight") and len(shape) > 1 and fan > 1 else 0.3
        state[name] = torch.randn(shape, generator=generator) * scale
    return state


@pytest.fixture
def network(official_state: dict[str, torch.Tensor]) -> GIFNetNetwork:
    """The network with those weights."""
    built = GIFNetNetwork()
    built.load_state_dict(convert_official(official_state, built))
    return built.eval()


@pytest.fixture
def pair() -> torch.Tensor:
    """Luma `(2, 2, 29, 42)` of two smooth pictures: no side a multiple of anything."""
    return smooth_pair(29, 42)


def smooth_pair(height: int, width: int, batch: int = 2) -> torch.Tensor:
    """Smooth random luma `(batch, 2, height, width)` in [0, 1]."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    small = torch.rand(batch, 2, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
