"""CUDA graphs and torch.compile on a GPU: replays with new inputs, bit by bit what eager calls give.

    python -m benchmarks.gpu_graphs [--specs gla,kda] [--tasks graphs,compile]

`graphs` captures the forward pass, and forward with backward, of every library spec; `compile` runs a training step
under torch.compile(fullgraph=True) at two lengths and counts graphs and graph breaks.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

import smir
from benchmarks.gpu_runs import Rows, Task, fast_form, large_arguments, run

MODULE = "benchmarks.gpu_graphs"
SHAPE, SIZE, LENGTHS = (2, 1024, 4), 64, (1024, 3072)
Tensors = dict[str, Any]


def arguments(name: str, tokens: int) -> Tensors:
    """Seeded arguments in bfloat16, gates in float32; all get gradients."""
    spec = smir.compile(name).spec
    drawn = large_arguments(spec, (SHAPE[0], tokens, SHAPE[2]), lambda _: SIZE)
    vectors = {d.name for d in spec.inputs if d.dims}
    return {n: (x.bfloat16() if n in vectors else x).requires_grad_() for n, x in drawn.items()}


def graphs(name: str) -> Iterator[dict[str, Any]]:
    """One row per pass: whether a captured graph, replayed on other values, gives the bits of an eager call."""
    mixer = smir.compile(name, form=fast_form(name))
    given = arguments(name, SHAPE[1])
    plain = {n: x.detach().clone() for n, x in given.items()}

    def forward() -> list[Any]:
        y, final = mixer(**plain, return_state=True)
        return [y, *final.values()]

    def training() -> list[Any]:
        y = mixer(**given)
        return [y.detach(), *torch.autograd.grad(y.float().square().sum(), list(given.values()))]

    for side, call, inputs in (("forward", forward, plain), ("training", training, given)):
        yield {"spec": name, "task": "graphs", "side": side, "same": _replayed(call, inputs)}


def _replayed(call: Callable[[], list[Any]], inputs: Tensors) -> bool:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    with torch.no_grad():
        for x in inputs.values():
            x.mul_(0.75)
    graph.replay()
    torch.cuda.synchronize()
    return all(map(torch.equal, captured, call()))


def compiled(name: str) -> Iterator[dict[str, Any]]:
    """A training step in one graph, with a length that changes; the largest difference from an eager one."""
    from torch._dynamo.utils import counters

    mixer = smir.compile(name)
    traced = torch.compile(lambda given: mixer(**given), fullgraph=True, dynamic=True)
    worst = 0.0
    for tokens in LENGTHS:
        given = arguments(name, tokens)
        found, expected = (_step(call, given) for call in (traced, lambda g: mixer(**g)))
        pairs = zip(found, expected, strict=True)
        worst = max(worst, *(float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in pairs))
    breaks, count = sum(counters["graph_break"].values()), counters["stats"]["unique_graphs"]
    yield {"spec": name, "task": "compile", "graphs": count, "breaks": breaks, "difference": worst}


def _step(call: Callable[[Tensors], Any], given: Tensors) -> list[Any]:
    y = call(given).float()
    return [y.detach(), *(g.float() for g in torch.autograd.grad(y.square().sum(), list(given.values())))]


def summary(rows: Rows) -> None:
    """A line for each that isn't as it should be, and the counts."""
    done = [r for r in rows if "crashed" not in r]
    bad = [r for r in rows if "crashed" in r or not r.get("same", True) or r.get("breaks") or r.get("graphs", 1) != 1]
    for row in bad:
        print(row)
    for task in ("graphs", "compile"):
        own = [r for r in done if r["task"] == task]
        print(f"{task}: {len(own)} rows, {sum(r in bad for r in own)} wrong,",
              f"largest difference {max((r.get('difference', 0.0) for r in own), default=0.0):.1e}")  # fmt: skip
    print(f"{len(rows) - len(done)} crashed")


if __name__ == "__main__":
    tasks = {"graphs": Task(graphs), "compile": Task(compiled)}
    run(MODULE, __doc__, tasks, summary, f"[B, T, H] = {SHAPE}, {SIZE} channels")
