"""What makes TC-MoA fast must not change what it computes: compilation without breaks, types of the stream, recomputation."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from fusion import load_model
from fusion.errors import ConfigError
from fusion.models.compiled import compile_in_place, compile_mode, copied
from fusion.models.output import FusionOutput

WITHOUT_WEIGHTS = ["model.weights=null", "model.backbone.weights=null"]
SMALL = [
    *WITHOUT_WEIGHTS, "model.backbone.embed_dim=48", "model.backbone.num_heads=3", "model.backbone.decoder_embed_dim=48",
    "model.backbone.decoder_num_heads=3", "model.backbone.depth=2", "model.backbone.decoder_depth=2",
]  # fmt: skip


def build(*overrides, adapter="mixture"):
    torch.manual_seed(0)
    model = load_model("tcmoa_tiny", overrides=[f"model/adapter={adapter}", *SMALL, *overrides])
    for name, parameter in model.named_parameters():
        if "w_gate" in name:
            torch.nn.init.normal_(parameter)
    return model


def pair(batch=1):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(batch, 3, 112, 112, generator=generator) for _ in range(2))


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def compilations():
    """A backend that counts how often it is asked, on a clean table."""
    torch._dynamo.reset()
    yield CompileCounterWithBackend("eager")
    torch._dynamo.reset()


@pytest.mark.parametrize("adapter", ["mixture_residual", "adaptformer"])
def test_one_graph_for_all_tasks_and_the_same_pictures(adapter, compilations):
    model = build(adapter=adapter)
    a, b = pair()
    with torch.no_grad():
        expected = [model(a, b, task).fused for task in model.tasks]
        model.network.compile(backend=compilations, fullgraph=True)
        got = [model(a, b, task).fused for task in model.tasks]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert compilations.frame_count == 1


def test_training_is_one_graph_too_and_learns_the_same(compilations):
    model = build("model.network.gradient_checkpointing=mlp", "model.router.noise=false").train()
    a, b = pair()
    found = []
    for compiled in (False, True):
        if compiled:
            model.network.compile(backend=compilations, fullgraph=True)
        model.zero_grad()
        model(a, b, "mef").fused.square().sum().backward()
        found.append(gradients(model))
    model(a, b, "vif").fused.square().sum().backward()
    assert compilations.frame_count == 1
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("recompute", ["mlp", "true"])
def test_recomputation_changes_memory_not_gradients(recompute):
    a, b = pair()
    found = []
    for setting in ("false", recompute):
        model = build(f"model.network.gradient_checkpointing={setting}", "model.router.noise=false").train()
        saved = 0

        def pack(tensor):
            nonlocal saved
            saved += tensor.numel() if tensor.requires_grad else 0
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(a, b, "vif").fused.square().sum()
        loss.backward()
        found.append((saved, gradients(model)))
    (all_saved, expected), (less_saved, got) = found
    assert less_saved < (0.95 if recompute == "mlp" else 0.85) * all_saved  # the sites keep what they keep
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_task_as_a_number_and_as_a_tensor_are_the_same():
    network = build().network
    a, b = pair()
    with torch.no_grad():
        for task in range(3):
            assert torch.equal(network(a, b, task).fused, network(a, b, torch.tensor(task)).fused)


def test_stream_in_autocast_s_type_is_near_and_float32_is_nearer():
    a, b = pair()
    models = {stream: build(f"model.network.stream={stream}") for stream in ("autocast", "float32")}
    with torch.no_grad():
        exact = models["float32"](a, b, "vif").fused
        assert torch.equal(models["autocast"](a, b, "vif").fused, exact)  # no autocast, no difference
        with torch.autocast("cpu", torch.bfloat16):
            error = {name: (model(a, b, "vif").fused - exact).square().mean().sqrt() for name, model in models.items()}
            assert models["autocast"](a, b, "vif").fused.dtype == torch.float32
    assert error["float32"] < error["autocast"] < 0.02


def test_what_a_cuda_graph_returned_can_be_kept():
    output = FusionOutput(torch.ones(2), sites=["x"], prompts=[torch.zeros(1), None])
    kept = copied(output)
    output.fused.zero_()
    output.prompts[0].add_(1)
    assert kept.fused.sum() == 2 and kept.prompts[0] == 0 and kept.prompts[1] is None and kept.sites == ["x"]


def test_modes_of_compilation_are_named():
    assert [compile_mode(value) for value in (None, False, True, "reduce-overhead")] == [
        None, None, "default", "reduce-overhead",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="compile=fast is not one of default, reduce-overhead, max-autotune, false"):
        compile_mode("fast")
    layer = torch.nn.Linear(2, 2)
    compile_in_place(layer, "reduce-overhead")
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_impossible_network_values_are_refused_by_name():
    for key in ("stream", "gradient_checkpointing"):
        with pytest.raises(ConfigError, match=f"model.network.{key}=half is not one of"):
            build(f"model.network.{key}=half")
