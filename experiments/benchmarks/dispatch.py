"""Dense against sparse dispatch of tokens to experts: time of a forward pass, and of forward and backward.

    python experiments/benchmarks/dispatch.py                           the whole table, on the GPU where there is one
    python experiments/benchmarks/dispatch.py --dim 256 --experts 4 8 --top-k 2 --tokens 784 --device cpu --threads 1

Dense runs every expert on every token; sparse gathers each expert's tokens, which costs a host synchronisation per
expert on a GPU. The ratio is sparse over dense: above 1 dense is the faster one.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch.utils.benchmark import Timer

from fusion.analysis.cost import describe_device
from fusion.moe.dispatch import dispatch
from fusion.moe.experts import MLPExperts

HEADER = [
    "D",
    "N",
    "K",
    "tokens",
    "dense ms",
    "sparse ms",
    "ratio",
    "dense ms (+ backward)",
    "sparse ms (+ backward)",
    "ratio",
]


def random_gates(tokens: int, experts: int, top_k: int, device: torch.device) -> torch.Tensor:
    """`(tokens, experts)` gates of random tokens: K non-zero ones each, with the sum 1."""
    values, indices = torch.randn(tokens, experts, device=device).topk(top_k, dim=-1)
    return torch.zeros(tokens, experts, device=device).scatter(-1, indices, values.softmax(-1))


def seconds(step: Callable[[], object], threads: int, budget: float) -> float:
    """Median time of a step; the timer warms up and synchronises."""
    return Timer("step()", globals={"step": step}, num_threads=threads).blocked_autorange(min_run_time=budget).median


def milliseconds(dim: int, experts: int, top_k: int, tokens: int, mode: str, args: argparse.Namespace) -> list[float]:
    """Times of a forward pass, and of forward and backward."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    bank = MLPExperts(dim, experts).to(device)
    inputs = torch.randn(tokens, dim, device=device, requires_grad=True)
    gates = random_gates(tokens, experts, top_k, device).requires_grad_()

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return dispatch(bank, inputs, gates, mode=mode)

    def backward() -> object:
        return torch.autograd.grad(dispatch(bank, inputs, gates, mode=mode).sum(), [inputs, gates, *bank.parameters()])

    return [1e3 * seconds(step, args.threads, args.seconds) for step in (forward, backward)]


def rows(args: argparse.Namespace) -> Iterator[list[str]]:
    """A row of cells per combination, as soon as it is measured."""
    for case in product(args.dim, args.experts, args.top_k, args.tokens):
        _, experts, top_k, _ = case
        if top_k > experts:
            continue
        dense, sparse = (milliseconds(*case, mode, args) for mode in ("dense", "sparse"))
        times = [f"{d:.3f} {s:.3f} {s / d:.2f}".split() for d, s in zip(dense, sparse, strict=True)]
        yield [*map(str, case), *times[0], *times[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dim", type=int, nargs="+", default=[48, 192, 256], help="width of the tokens that experts see"
    )
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--top-k", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokens", type=int, nargs="+", default=[784, 6272], help="28 x 28, and two images of 56 x 56")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.2, help="least time per measurement")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    processor = describe_device(torch.device(args.device))
    print(f"{processor}; torch {torch.__version__}; MLP experts of D/8 hidden channels, float32\n")
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "--:|" * len(HEADER))
    for cells in rows(args):
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
