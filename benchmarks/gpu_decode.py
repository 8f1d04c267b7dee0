"""Microseconds of one token on a GPU, of a step in place: from a CUDA graph and as a plain call, beside the bytes that
a step must move, and beside the kernels of flash-linear-attention and mamba-ssm where they are installed.

    python -m benchmarks.gpu_decode [--specs gla,mamba3] [--tasks times]

bfloat16 inputs, float32 states; H = 16, every dimension 128 but N = 16. The floor reads and writes the state once,
reads a token's inputs and writes its output. A graph holds many steps, so that its own launch counts for nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import smir
from benchmarks.gpu_runs import CHECK, TIMES, Rows, Task, draw, run
from smir.bench.peers import PEERS as BENCHED
from smir.sampling import dimension_names
from smir.specs import library_names

MODULE = "benchmarks.gpu_decode"
BATCHES, HEADS = (1, 32, 256), 16
SIZES = {"N": 16, "M": 64}
# What an H200 moves in a second, measured (docs/performance.md).
BYTES_PER_SECOND = 4.25e12
STEPS, REPEATS = 50, 7
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A kernel of another library that computes the same token: its function and, by their names there, arguments of
    a spec `[B, 1, H, ..]`."""

    function: str
    arguments: Mapping[str, str]
    state: str = "S"

    def step(self, given: Arrays, state: Any) -> Callable[[], Any]:
        module, name = self.function.rsplit(".", 1)
        call = getattr(import_module(module), name)
        named = {theirs: given[ours][:, None] for theirs, ours in self.arguments.items()}
        return lambda: call(**named, scale=1.0, initial_state=state, output_final_state=True)


@dataclass(frozen=True)
class SelectivePeer(Peer):
    """Mamba's step, of a state `[B, H, V, K]` that it overwrites."""

    def step(self, given: Arrays, state: Any) -> Callable[[], Any]:
        BENCHED["mamba2_ssd"][0].load()  # the package without its compiled parts
        module, name = self.function.rsplit(".", 1)
        call, held = getattr(import_module(module), name), state.transpose(-1, -2).contiguous()
        named = {theirs: given[ours] for theirs, ours in self.arguments.items()}
        heads, rows, columns = held.shape[1:]
        per_row = {"dt": given["dt"][..., None].expand(-1, -1, rows), "D": given["D"][:, None].expand(heads, rows),
                   "A": given["A"][:, None, None].expand(heads, rows, columns),
                   "dt_bias": state.new_zeros(heads, 1).expand(heads, rows)}  # fmt: skip
        return lambda: (call(held, **named, **per_row)[:, None],)


QKV = {"q": "q", "k": "k", "v": "v"}
PEERS: Mapping[str, Peer] = {
    "mamba2_ssd": SelectivePeer("mamba_ssm.ops.triton.selective_state_update.selective_state_update",
                                {"x": "x", "B": "B", "C": "C"}),
    "linear_attention": Peer("fla.ops.simple_gla.fused_recurrent_simple_gla", QKV),
    "scalar_decay": Peer("fla.ops.simple_gla.fused_recurrent_simple_gla", {**QKV, "g": "g"}),
    "gla": Peer("fla.ops.gla.fused_recurrent_gla", {**QKV, "gk": "g"}),
    "delta_rule": Peer("fla.ops.delta_rule.fused_recurrent_delta_rule", {**QKV, "beta": "beta"}),
    "gated_delta_rule": Peer("fla.ops.gated_delta_rule.fused_recurrent_gated_delta_rule", {**QKV, "g": "g",
                             "beta": "beta"}),
    "kda": Peer("fla.ops.kda.fused_recurrent_kda", {**QKV, "g": "g", "beta": "beta"}),
}  # fmt: skip


class Decoder:
    """A mixer with the arguments of one token and a state of some tokens."""

    def __init__(self, name: str, batch: int) -> None:
        import torch

        self.mixer = smir.compile(name, backend="triton")
        spec = self.mixer.spec
        sizes = {n: SIZES.get(n, 128) for n in dimension_names(spec)}
        drawn = {n: torch.from_numpy(a).bfloat16().cuda() for n, a in draw(spec, 1, 20, HEADS, sizes, seed=3).items()}
        inputs = {d.name for d in spec.inputs}
        one = {n: a[:, -1].repeat(batch, *[1] * (a.ndim - 2)) if n in inputs else a for n, a in drawn.items()}
        self.token = {n: a * (0.9 + 0.1 * torch.rand_like(a)) if n in inputs else a for n, a in one.items()}
        _, first = self.mixer.step(**self.token)
        _, self.state = self.mixer.step(**self.token, state=first)

    def step(self) -> Any:
        return self.mixer.step(**self.token, state=self.state, inplace=True)

    def floor(self) -> int:
        """Bytes: the state read and written, the inputs read, the output written, parameters read once."""
        y, _ = self.mixer.step(**self.token, state=self.state)
        moved = [*self.token.values(), y, *self.state.values(), *self.state.values()]
        return sum(a.numel() * a.element_size() for a in moved)


def times(name: str) -> Iterator[dict[str, Any]]:
    """One row per batch; a peer's times in the same row."""
    import torch

    if smir.compile(name).compilation.lookahead is not None or smir.compile(name).compilation.equations is None:
        return
    for batch in BATCHES:
        with torch.no_grad():
            decoder = Decoder(name, batch)
            floor = decoder.floor()
            row = {"task": TIMES, "spec": name, "batch": batch, "floor_bytes": floor,
                   "floor_us": floor / BYTES_PER_SECOND * 1e6, "graph_us": in_graph(decoder.step),
                   "plain_us": plainly(decoder.step)}  # fmt: skip
            peer = PEERS.get(name)
            if peer is not None and find_spec(peer.function.partition(".")[0]):
                theirs = peer.step(decoder.token, decoder.state[peer.state])
                row |= {"peer": peer.function, "peer_graph_us": in_graph(theirs), "peer_plain_us": plainly(theirs)}
        yield row


def check(name: str) -> Iterator[dict[str, Any]]:
    """That the peer computes the same token: relative difference of the outputs."""
    import torch

    peer = PEERS.get(name)
    if peer is None or not find_spec(peer.function.partition(".")[0]):
        return
    with torch.no_grad():
        decoder = Decoder(name, 2)
        theirs = peer.step(decoder.token, decoder.state[peer.state].clone())()[0][:, 0].double()
        ours = decoder.step()[0].double()
    error = float(((ours - theirs).pow(2).mean() / theirs.pow(2).mean()).sqrt())
    yield {"task": CHECK, "spec": name, "peer": peer.function, "difference": error}


def in_graph(step: Callable[[], Any]) -> float:
    """Microseconds of one of many steps in a graph: the median of several replays."""
    import torch

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(STEPS):
            step()
    graph.replay()
    return _median([_elapsed(graph.replay) for _ in range(REPEATS)]) / STEPS


def plainly(step: Callable[[], Any]) -> float:
    """Microseconds of one of many calls one after the other, the host's work included."""

    def many() -> None:
        for _ in range(STEPS):
            step()

    many()
    return _median([_elapsed(many) for _ in range(REPEATS)]) / STEPS


def _elapsed(work: Callable[[], Any]) -> float:
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return 1e3 * float(start.elapsed_time(end))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _summary(rows: Rows) -> None:
    print(f"{'spec':<27}{'batch':>6}{'floor us':>10}{'graph us':>10}{'plain us':>10}{'of floor':>9}{'peer us':>9}")
    for r in sorted((r for r in rows if "graph_us" in r), key=lambda r: (r["spec"], r["batch"])):
        print(f"{r['spec']:<27}{r['batch']:>6}{r['floor_us']:>10.2f}{r['graph_us']:>10.2f}{r['plain_us']:>10.2f}"
              f"{r['floor_us'] / r['graph_us']:>9.0%}{r.get('peer_graph_us', float('nan')):>9.2f}")  # fmt: skip
    for r in (r for r in rows if "difference" in r):
        print(f"{r['spec']:<27}{r['peer']}: differs by {r['difference']:.1e}")
    for r in (r for r in rows if "crashed" in r):
        print(r["spec"], r["crashed"][-500:])


if __name__ == "__main__":
    tasks = {CHECK: Task(check), TIMES: Task(times, alone=True)}
    run(MODULE, __doc__, tasks, _summary, f"B={BATCHES} H={HEADS}, dimensions 128, {SIZES}", library_names())
