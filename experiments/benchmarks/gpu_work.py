"""The pieces of work in the GPU table: one function per block of rows. Weights are random: speed does not depend on them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from gpu_clock import Clock, Row, operations, precision
from lightning import Trainer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from fusion import load_model
from fusion.data.loading.loader import to_float
from fusion.metrics import compute, names
from fusion.models.base import FusionModel
from fusion.models.tcmoa.windows import WindowOrder
from fusion.training.callbacks.ema import EMA
from fusion.training.callbacks.finite_guard import FiniteGuard
from fusion.training.callbacks.step_seed import StepSeed

TASKS = ("vif", "mef", "mff")
FORMS = {"plain": [], "stream float32": ["model.network.stream=float32"]}


def without_weights(name: str, *overrides: str) -> FusionModel:
    """A model with random weights."""
    own = ["model.weights=null"] if name in ("tcmoa_tiny", "toar_base") else []
    backbone = ["model.backbone.weights=null"] if name.startswith("tcmoa") else []
    return load_model(name, overrides=[*own, *backbone, *overrides])


def images(clock: Clock, *size: int) -> Tensor:
    """Two batches of random pictures `(2, B, 3, H, W)`."""
    return torch.rand(2, *size, device=clock.device)


def fusing(clock: Clock, label: str, name: str, size: tuple[int, int], settings: list[str], batches: tuple[int, ...] = (1,),
           modes: tuple[str, ...] = (), overrides: tuple[str, ...] = ()) -> Iterator[Row]:  # fmt: skip
    """Rows of fusing one pair, and batches, in several precisions, compiled or not."""
    model = without_weights(name, *overrides).to(clock.device).eval()
    a, b = images(clock, 1, 3, *size)
    with torch.inference_mode():
        flops = operations(lambda: model(a, b, "vif"))
        for setting in settings:
            for batch in batches:
                many = (a.expand(batch, -1, -1, -1), b.expand(batch, -1, -1, -1))
                with precision(clock.device, setting):
                    text = setting if batch == 1 else f"{setting}, batch of {batch}, per pair"
                    run = partial(model, *many, "vif")
                    yield clock.row(f"{label}, {size[0]}x{size[1]}", text, run, flops * batch, batch)
        for mode in modes:
            yield from compiled(clock, label, model, (a, b), settings[-1], mode, flops)


def compiled(clock: Clock, label: str, model: FusionModel, pair: tuple[Tensor, Tensor], setting: str, mode: str,
             flops: float) -> Iterator[Row]:  # fmt: skip
    """Time to compile for all tasks, how often that was, and the time of a run afterwards."""
    import time

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model.network._compiled_call_impl = None  # type: ignore[union-attr]
    model.compile_network(mode)
    start = time.perf_counter()
    with precision(clock.device, setting):
        for task in TASKS if hasattr(model, "tasks") else TASKS[:1]:
            model(*pair, task)
        clock.synchronize()
        seconds = time.perf_counter() - start
        counters = torch._dynamo.utils.counters
        note = f"compiled in {seconds:.0f} s, {counters['stats']['unique_graphs']} graph(s), "
        note += f"{sum(counters['graph_break'].values())} break(s)"
        size = f"{pair[0].shape[2]}x{pair[0].shape[3]}"
        yield clock.row(f"{label}, {size}", f"{setting}, {mode}", partial(model, *pair, "vif"), flops, note=note)


def learning(clock: Clock, label: str, name: str, crop: int, batch: int, setting: str, forms: dict[str, list[str]],
             mode: str | None = None) -> Iterator[Row]:  # fmt: skip
    """Rows of one round of training: a forward and backward pass and an optimiser step for each of the three tasks."""
    for form, overrides in forms.items():
        model = without_weights(name, *overrides).to(clock.device).train()
        if mode:
            model.compile_network(mode)
        model.loss.warmup_epochs = 0  # type: ignore[union-attr, operator]
        groups = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(groups, lr=1e-5, fused=True)
        scaler = torch.amp.GradScaler(clock.device.type, enabled=setting == "fp16" and clock.cuda)
        a, b = images(clock, batch, 3, crop, crop)
        run = partial(_round, model, optimizer, scaler, a, b, clock, setting)
        text = f"{setting}, {form}" + (f", {mode}" if mode else "")
        yield clock.row(f"{label}: 3 tasks x {batch} crops of {crop}", text, run, None)


def _round(model: FusionModel, optimizer: Any, scaler: Any, a: Tensor, b: Tensor, clock: Clock, setting: str) -> None:
    for task in TASKS:
        with precision(clock.device, setting):
            terms = model.losses(model(a, b, task), {"a": a, "b": b, "task": task, "name": []})  # type: ignore[typeddict-item]
            loss = torch.stack([term.float() for term in terms.values()]).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)


class Bytes(torch.utils.data.Dataset[dict[str, Any]]):
    """Random batches as the loaders bring them: bytes, one task each."""

    def __init__(self, count: int, batch: int, crop: int) -> None:
        self.count, self.shape = count, (batch, 3, crop, crop)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        a, b = torch.randint(0, 255, (2, *self.shape), dtype=torch.uint8)
        return {"a": a, "b": b, "task": TASKS[index % 3], "name": [str(index)] * self.shape[0]}


def lightning_steps(clock: Clock, crop: int, batch: int, steps: int, setting: str) -> Row:
    """Steps per second of a Lightning training of tcmoa_tiny with its callbacks, loaders left out."""
    import time

    model = without_weights("tcmoa_tiny", "model.loss.warmup_epochs=0")
    model.optimizer = partial(torch.optim.AdamW, lr=1e-5, fused=True)
    model.on_after_batch_transfer = lambda batch, index: to_float(batch)  # type: ignore[method-assign, assignment]
    stamps: list[float] = []

    class Stamp(StepSeed):
        def on_train_batch_end(self, *_: Any) -> None:
            if len(stamps) % 10 == 0:
                clock.synchronize()
            stamps.append(time.perf_counter() if clock.cuda else time.process_time())

    modes = {"bf16": "bf16-mixed", "fp16": "16-mixed"}
    trainer = Trainer(
        accelerator="gpu" if clock.cuda else "cpu", devices=1, max_epochs=1, precision=modes.get(setting, "32-true"),  # type: ignore[arg-type]
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Stamp(0), EMA(0.995), FiniteGuard()], use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(model, DataLoader(Bytes(steps, batch, crop), batch_size=None))
    clock.synchronize()
    first, last = len(stamps) // 3 // 10 * 10, (len(stamps) - 1) // 10 * 10 or len(stamps) - 1
    rate = (last - first) / (stamps[last] - stamps[first])
    return Row(
        f"training tcmoa_tiny in Lightning, batch {batch}, crops of {crop}",
        setting,
        1e3 / rate,
        note=f"{rate:.1f} steps/s",
    )


def metrics(clock: Clock, size: tuple[int, int], batch: int) -> Iterator[Row]:
    """All metrics of one pair, and of a batch of pairs."""
    everything = names("exact")
    for count in (1, batch):
        a, b, fused = torch.rand(3, count, 3, *size, device=clock.device)
        for dtype in (torch.float64, torch.float32):
            run = partial(compute, a, b, fused, everything, dtype=dtype)
            text = f"{str(dtype).removeprefix('torch.')}" + (f", batch of {count}, per pair" if count > 1 else "")
            label = f"all {len(everything)} metrics, {size[0]}x{size[1]}"
            try:
                ms, gib = clock.ms(run, warmup=1, most=5)
                yield Row(label, text, ms / count, gib=gib)
            except Exception as refused:
                yield Row(label, text, note=str(refused).splitlines()[0][:80])


def parts(clock: Clock, windows: int, heads: int, dim: int) -> Iterator[Row]:
    """Pieces of a block of TC-MoA-L: attention with a bias by back end, tokens into windows by method."""
    q, k, v = torch.randn(3, windows, heads, 196, dim // heads, device=clock.device, dtype=torch.bfloat16)
    padded = torch.randn(1, heads, 196, 200, device=clock.device, dtype=torch.bfloat16)[..., :196]
    flops = 4.0 * windows * heads * 196 * 196 * (dim // heads)
    for name, bias in (("padded bias", padded), ("packed bias", padded.contiguous()), ("no bias", None)):
        for backend in (None, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
            run: Callable[[], Tensor] = partial(F.scaled_dot_product_attention, q, k, v, attn_mask=bias)
            label = f"attention, {windows} windows, {name}"
            text = "bf16, PyTorch's choice" if backend is None else f"bf16, {backend.name.lower()}"
            try:
                if backend is None:
                    yield clock.row(label, text, run, flops)
                else:
                    with sdpa_kernel(backend):
                        yield clock.row(label, text, run, flops)
            except RuntimeError:
                continue  # this back end does not take such a call
    rows = windows // 6 * 14
    tokens = torch.randn(1, rows, 84, dim, device=clock.device, dtype=torch.bfloat16)
    order = WindowOrder(tokens, 14)
    order.move(tokens.flatten(0, 2), None, 7)

    def roll_and_cut() -> Tensor:
        shifted = torch.roll(tokens, (-7, -7), (1, 2))
        return shifted.view(1, rows // 14, 14, 6, 14, dim).transpose(2, 3).contiguous()

    yield clock.row("tokens into shifted windows", "bf16, roll and cut", roll_and_cut, None)
    yield clock.row(
        "tokens into shifted windows", "bf16, one gather", lambda: order.move(tokens.flatten(0, 2), None, 7), None
    )
