"""The network against the formulas of its specification, written out window by window."""

import math

import pytest
import torch
import torch.nn.functional as F

from fusion.errors import ConfigError, WeightsError
from fusion.models.gifnet.convert import convert_official, is_official
from fusion.models.gifnet.gates import ChannelGate
from fusion.models.gifnet.network import BRANCHES, GIFNetNetwork

BRANCH = "extractor_multask.SwinTransformerSpecific."
RELEASED = 822_780  # parameters, counted on the released classes
UNREAD = 2  # of them are gates that the released code never reads


class Formulas:
    """One picture `(2, H, W)` through the specification, step by step, in float64 and with the released names."""

    def __init__(self, state: dict[str, torch.Tensor], own_v: bool = False) -> None:
        self.state = {key: value.double() for key, value in state.items()}
        self.own_v = own_v

    def conv(self, x, name, size=1, groups=1):
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        half = size // 2
        x = F.pad(x[None], (half,) * 4, mode="reflect") if half else x[None]
        return F.conv2d(x, weight, bias, groups=groups)[0]

    def encode(self, pair):
        features = pair.double()
        for index in (1, 2, 3):
            new = self.conv(features, f"getSharedFeatures.conv_{index}.conv2d", 3).clamp(min=0)
            features = torch.cat([features, new])
        return features

    def decode(self, x, name):
        for place in (1, 4, 7, 10):
            x = self.conv(x, f"{name}.{place}", 3)
            x = x.tanh() if place == 10 else x.clamp(min=0)
        return x

    def norm(self, x, name):
        mean, std = x.mean(), ((x - x.mean()) ** 2).mean().add(1e-5).sqrt()
        get = lambda part: self.state[f"{name}.{part}"].flatten()[:, None, None]  # noqa: E731
        rescale = get("meta1.weight") * std + get("meta1.bias")
        rebias = get("meta2.weight") * mean + get("meta2.bias")
        return (x - mean) / std * get("weight") + get("bias"), rescale, rebias

    def bias(self, index, head, p, q):
        """Of pixel q for pixel p, both (row, column) in a window."""
        name = f"{BRANCH}layer1.blocks.{index}.attn.attn.meta"
        offset = [math.copysign(math.log1p(abs(d)), d) for d in (p[0] - q[0], p[1] - q[1])]
        hidden = self.state[f"{name}.0.weight"] @ torch.tensor(offset).double() + self.state[f"{name}.0.bias"]
        return (self.state[f"{name}.2.weight"] @ hidden.clamp(min=0) + self.state[f"{name}.2.bias"])[head]

    def bias_table(self, index, head):
        places = [(r, c) for r in range(8) for c in range(8)]
        return torch.stack([torch.stack([self.bias(index, head, p, q) for q in places]) for p in places])

    def attend(self, q, k, v, index):
        shift = 4 * index
        height, width = q.shape[1:]
        right, bottom = (-(side + shift) % 8 for side in (width, height))
        q, k, v = (F.pad(x[None], (shift, right, shift, bottom), mode="reflect")[0] for x in (q, k, v))
        out = torch.zeros_like(v)
        tables = [self.bias_table(index, head) for head in range(2)]
        for top in range(0, q.shape[1], 8):
            for left in range(0, q.shape[2], 8):
                for head in range(2):
                    part = (slice(49 * head, 49 * head + 49), slice(top, top + 8), slice(left, left + 8))
                    ours, theirs, values = (x[part].flatten(1).T for x in (q, k, v))
                    weights = (ours @ theirs.T / 7 + tables[head]).softmax(-1)
                    out[part] = (weights @ values).T.reshape(49, 8, 8)
        return out[:, shift : shift + height, shift : shift + width]

    def branch(self, main_shared, other_shared, main):
        suffix, other = ("", "_mfif") if main == "mm" else ("_mfif", "")
        embed = {"": "patch_embed_ivif.proj", "_mfif": "patch_embed_mfif.proj"}
        bottom, right = (-side % 4 for side in main_shared.shape[1:])
        pad = lambda x: F.pad(x[None], (0, right, 0, bottom), mode="reflect")[0]  # noqa: E731
        x = self.conv(pad(main_shared), BRANCH + embed[suffix], 3)
        y = self.conv(pad(other_shared), BRANCH + embed[other], 3)
        for index in (0, 1):
            block = f"{BRANCH}layer1.blocks.{index}."
            normed, scale, offset = self.norm(x, f"{block}norm1{suffix}")
            q, k = self.conv(normed, f"{block}attn.QK{suffix}").chunk(2)
            v = self.conv(normed, f"{block}attn.V{suffix}")
            attended = self.attend(q, k, v, index) + self.conv(v, f"{block}attn.conv{suffix}", 5, groups=98)
            x = x + self.conv(attended, f"{block}attn.proj{suffix}") * scale + offset
            x = x + self.mlp(x, block, suffix)
            if index == 0:
                normed, scale, offset = self.norm(y, f"{block}norm1{other}")
                _, k = self.conv(normed, f"{block}attn.QK{other}").chunk(2)
                own = self.conv(normed, f"{block}attn.V{other}")
                beside = v if main == "mm" and not self.own_v else own
                attended = self.attend(q, k, own, 0) + self.conv(beside, f"{block}attn.conv{other}", 5, groups=98)
                y = y + self.conv(attended, f"{block}attn.proj{other}") * scale + offset
                y = y + self.mlp(y, block, other)
                x = x + self.state[f"{BRANCH}layer1.weights{suffix}.0"] * y
        height, width = main_shared.shape[1:]
        return self.conv(x, f"{BRANCH}patch_unembed.proj.0", 3)[:, :height, :width]

    def mlp(self, x, block, suffix):
        return self.conv(self.conv(x, f"{block}mlp{suffix}.mlp.0").clamp(min=0), f"{block}mlp{suffix}.mlp.2")

    def fuse(self, pair, auxiliary, main):
        shared = self.encode(pair)
        both = torch.cat([shared, self.branch(shared, self.encode(auxiliary), main)])
        merge = "cnnDecoder.fuseComplementFeatures.mlp"
        merged = self.conv(self.conv(both, f"{merge}.0").clamp(min=0), f"{merge}.2")
        return self.decode(merged, "cnnDecoder.decoder") / 2 + 0.5, self.decode(shared, "decoder_rec.decoder")


@pytest.mark.parametrize("main", BRANCHES)
@pytest.mark.parametrize("own_v", [False, True])
def test_network_is_what_the_specification_writes(official_state, pair, main, own_v):
    network = GIFNetNetwork(aux_conv_own_v=own_v)
    network.load_state_dict(convert_official(official_state, network))
    pair = pair[:, :, :21, :26]
    auxiliary = pair.flip(-1) * 0.5
    with torch.no_grad():
        fused, features = network(pair, auxiliary, main)
        reconstruction = network.reconstruct(features.shared)
    formulas = Formulas(official_state, own_v)
    for index in range(len(pair)):
        expected, expected_reconstruction = formulas.fuse(pair[index], auxiliary[index], main)
        torch.testing.assert_close(fused[index].double(), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(reconstruction[index].double(), expected_reconstruction, atol=1e-5, rtol=0)
    assert fused.std() > 0.01, "weights that make nothing of their input prove nothing"


def test_parameters_are_those_of_the_released_network(official_state):
    network = GIFNetNetwork()
    assert sum(p.numel() for p in network.parameters()) == RELEASED - UNREAD
    buffers = sum(value.numel() for key, value in official_state.items() if key.endswith("relative_positions"))
    assert sum(value.numel() for value in official_state.values()) - buffers == RELEASED


def test_interaction_decides_which_branch_sees_the_other(network, pair):
    with torch.no_grad():
        for main in BRANCHES:
            fused = {}
            for interaction in ("on", "one_way", "off"):
                network.interaction = interaction
                fused[interaction] = network(pair, main=main)[0]
            alone = network(pair, main=main, gate_scale=0.0)[0]
            assert torch.equal(fused["off"], alone)
            same = torch.equal(fused["one_way"], fused["on"])
            assert same == (main == "dp") and same != torch.equal(fused["one_way"], fused["off"])
            network.interaction = "on"
            torch.testing.assert_close(network(pair, main=main, gate_scale=0.0)[0], alone)
    with pytest.raises(ConfigError, match="model.interaction=both: expected one of on, one_way, off"):
        GIFNetNetwork("both")


@pytest.mark.parametrize("main", BRANCHES)
def test_gradients_reach_what_the_released_training_moves(network, pair, main):
    fused, features = network(pair, pair.flip(-1), main)
    (fused.mean() + network.reconstruct(features.shared).mean()).backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None}
    other = BRANCHES[1 - BRANCHES.index(main)]
    still = {name for name in dict(network.named_parameters()) if name not in moved}
    attention = {f"branches.{other}.blocks.0.{part}" for part in ("qkv", "conv", "proj", "norm.weight", "norm.bias")}
    for name in still:
        assert name.startswith((*attention, f"branches.{other}.blocks.1.", f"branches.{other}.gate")), name
    for part in ("embed.weight", "blocks.0.norm.rescale_weight", "blocks.0.norm.rebias_bias", "blocks.0.mlp.0.weight"):
        assert f"branches.{other}.{part}" in moved
    assert f"branches.{main}.gate.value" in moved


def test_encoder_learns_nothing_from_the_auxiliary_pair(network, pair):
    auxiliary = pair.flip(-1).clone().requires_grad_()
    network(pair, auxiliary, "dp")[0].mean().backward()
    assert auxiliary.grad is None


def test_channel_gate_starts_as_a_scalar_one_and_has_a_factor_per_channel(pair):
    torch.manual_seed(0)
    network = GIFNetNetwork(gate=lambda dim: ChannelGate(dim, init=0.25))
    assert torch.equal(network.branches["dp"].gate.factor(), torch.full((98,), 0.25))
    with torch.no_grad():
        before = network(pair)[0]
        network.branches["dp"].gate.value[3] += 1
        assert not torch.equal(network(pair)[0], before)


def test_conversion_names_what_does_not_fit(official_state, network):
    assert is_official(official_state) and not is_official(network.state_dict())
    less = {key: value for key, value in official_state.items() if "conv_2" not in key}
    with pytest.raises(WeightsError, match=r"missing getSharedFeatures.conv_2.conv2d.bias.*\(2 in all\)"):
        convert_official(less, network)
    with pytest.raises(WeightsError, match="unknown surplus"):
        convert_official(official_state | {"surplus": torch.zeros(1)}, network)
    with pytest.raises(WeightsError, match="keep model.network and model.gate as released"):
        convert_official(official_state, GIFNetNetwork(width=16))
    with pytest.raises(ConfigError, match="model.network.heads=3 must divide the 98 channels"):
        GIFNetNetwork(heads=3)


def test_variance_keeping_start_lets_the_picture_through_where_the_default_does_not():
    pair = torch.rand(1, 2, 24, 24, generator=torch.Generator().manual_seed(0))
    contrast, ends = {}, {}
    for init in ("torch", "kaiming"):
        torch.manual_seed(0)
        network = GIFNetNetwork(init=init)
        hidden = []
        network.decoder[6].register_forward_hook(lambda _module, inputs, _output, into=hidden: into.append(inputs[0]))
        with torch.no_grad():
            fused = network(pair)[0]
        contrast[init] = hidden[0].std(dim=(2, 3)).mean().item()
        ends[init] = fused.min().item(), fused.max().item()
    assert contrast["kaiming"] > 10 * contrast["torch"]
    assert ends["kaiming"][0] > 0.1 and ends["kaiming"][1] < 0.9  # far from the flat ends of the tanh
    with pytest.raises(ConfigError, match="model.network.init=xavier: expected torch or kaiming"):
        GIFNetNetwork(init="xavier")
