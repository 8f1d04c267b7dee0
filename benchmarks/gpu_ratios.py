"""Ours beside every peer's kernels on one GPU, in one run on the same inputs: forward, and forward with backward.

    python -m benchmarks.gpu_ratios [--rows gla,kda] [--peers no] [--seconds 480] [--again]

First everything is compiled, many processes at once, with what the peers' own searches will try. Then each
implementation is measured alone, in a process of its own: medians at two shapes, the memory of a step beside its
inputs, what the first step took to get ready (of a peer: its search among compiled kernels). Results are written as
they come; a later call goes on with what has none. Peers need `pip install fla-core mlstm_kernels mamba_ssm`
(`MAMBA_SKIP_CUDA_BUILD=TRUE`, if there is no compiler: its Triton kernels are enough).
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import smir
from benchmarks.ahead import COMPILE, MEASURE, Job, Run, without_results
from benchmarks.gpu_runs import Rows, chosen
from benchmarks.peer_search import Hastened
from benchmarks.ratio_rows import ROWS, TOKENS, Row
from smir.bench.floors import BOTH, FORWARD, floor
from smir.bench.peers import Peer
from smir.sampling import dimension_names
from smir.tuning.arguments import Shape, draw_tensors

MODULE = "benchmarks.gpu_ratios"
RESULTS = Path(__file__).parent / "results" / "gpu_ratios.json"
OURS, CEILINGS = "smir", "ceilings"
DTYPE = "bfloat16"


# ---- in a child process -----------------------------------------------------------------------------------------


def child(mode: str, name: str, who: str, threads: int) -> None:
    """Prints a row of results for each shape, as JSON. A measuring one first waits for a line on its input."""
    hastened = Hastened(threads, search=mode == MEASURE)
    rows = _ceilings() if who == CEILINGS else _rows(ROWS[name], who, mode, hastened)
    hastened.install()
    if mode == MEASURE:
        _import_all(name, who)
        sys.stdin.readline()
    for row in rows:
        print(json.dumps({"row": name, "who": who, "task": mode, **row}), flush=True)


def _import_all(name: str, who: str) -> None:
    """What takes a while and needs no device."""
    import torch  # noqa: F401
    import triton  # noqa: F401

    if who not in (OURS, CEILINGS):
        with contextlib.suppress(ImportError):  # it is met again, and noted, in the run
            ROWS[name].peers[who].load()


def _ceilings() -> Iterator[dict[str, Any]]:
    from smir.bench.ceilings import measure_ceilings

    yield measure_ceilings("cuda", DTYPE, lambda run: _milliseconds(run) / 1e3).to_json()


def _rows(row: Row, who: str, mode: str, hastened: Hastened) -> Iterator[dict[str, Any]]:
    import torch

    mixer = smir.compile(row.what, backend="triton")
    peer = None if who == OURS else row.peers[who]
    for batch, tokens in TOKENS:
        shape = row.shape(mixer.spec, batch, tokens, dimension_names(mixer.spec))
        found: dict[str, Any] = {"batch": batch, "tokens": tokens}
        found |= {"form": mixer.form_for(T=tokens, backend="triton")} if peer is None else {"peer": peer.short_name}
        try:
            found |= _implementation(mixer, shape, peer, mode)
        except Exception as error:
            if peer is None:
                raise
            found |= {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        torch.cuda.empty_cache()  # many processes compile on one card
        yield found | {"configurations": hastened.compiled, "compile_s": hastened.seconds}


def _implementation(mixer: Any, shape: Shape, peer: Peer | None, mode: str) -> dict[str, Any]:
    import torch

    drawn = draw_tensors(mixer.spec, shape, {d.name: DTYPE for d in mixer.spec.declarations}, "cuda")
    given = {n: x.detach().clone().requires_grad_() for n, x in (peer.arguments(drawn) if peer else drawn).items()}
    call: Callable[[dict[str, Any]], Any] = peer.call(shape.tokens) if peer else lambda x: mixer(**x)
    begin = time.perf_counter()
    y = call(given)
    seed = torch.randn_like(y)
    y.backward(seed)
    torch.cuda.synchronize()
    found: dict[str, Any] = {"first_s": time.perf_counter() - begin, "finite": bool(y.isfinite().all())}
    if mode == COMPILE:
        return found
    if peer is None:
        found |= {what: _floor(mixer, shape, what) for what in (FORWARD, BOTH)}
    elif peer.same:
        found |= {"difference": _difference(y, mixer(**drawn))}
    return found | _times(call, given, seed)


def _floor(mixer: Any, shape: Shape, what: str) -> dict[str, float]:
    least = floor(mixer.compilation, shape, {d.name: DTYPE for d in mixer.spec.declarations}, what)
    return {"bytes": least.bytes, "flops": least.flops}


def _difference(theirs: Any, ours: Any) -> float:
    """RMS of the difference of two outputs, relative to the RMS of the second."""
    theirs, ours = theirs.detach().float(), ours.detach().float()
    return float((theirs.reshape(ours.shape) - ours).norm() / ours.norm())


def _times(call: Callable[[dict[str, Any]], Any], given: dict[str, Any], seed: Any) -> dict[str, Any]:
    import torch

    def forward() -> None:
        with torch.no_grad():
            call(given)

    def both() -> None:
        for x in given.values():
            x.grad = None
        call(given).backward(seed)

    found = {"forward_ms": _milliseconds(forward), "both_ms": _milliseconds(both)}
    for what, run in (("forward_MiB", forward), ("both_MiB", both)):
        for x in given.values():
            x.grad = None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        found[what] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return found


def _milliseconds(run: Callable[[], Any]) -> float:
    import triton

    return float(triton.testing.do_bench(run, warmup=50, rep=200, return_mode="median"))


# ---- the processes and their results ----------------------------------------------------------------------------


def _show(rows: Rows) -> None:
    for r in rows:
        if "forward_ms" in r:
            difference = f"  differs {r['difference']:.1e}" if "difference" in r else ""
            print(f"{r['row']:<22.22}{r['who']:<30.30}{r['batch']}x{r['tokens']:<7}{r['forward_ms']:8.3f} /"
                  f"{r['both_ms']:8.3f} ms {r['both_MiB']:7.0f} MiB  first {r['first_s']:5.1f} s{difference}",
                  flush=True)  # fmt: skip
        else:
            print({k: v for k, v in r.items() if k not in ("task", "finite")}, flush=True)


def jobs_of(rows: Iterable[str], peers: bool) -> tuple[Job, ...]:
    """The ceilings, ours and the peers' of these rows."""
    jobs, begun = [Job(CEILINGS, CEILINGS, compiles=False)], set()
    for name in rows:
        row = ROWS[name]
        jobs.append(Job(name, OURS))
        for who, peer in row.peers.items() if peers else ():
            kernels = (who, row.every_head, *sorted(row.sizes.items()))
            if peer.is_installed:  # the same kernels aren't compiled twice
                jobs.append(Job(name, who, compiles=kernels not in begun, early=True))
                begun.add(kernels)
    return tuple(jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="with commas between them; default: all")
    parser.add_argument("--peers", choices=("yes", "no"), default="yes")
    parser.add_argument("--out", type=Path, default=RESULTS, help="a file that is there is added to")
    parser.add_argument("--again", action="store_true", help="measures also what has results")
    parser.add_argument("--skip-compile", action="store_true", help="where the caches are full")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that compile at once")
    parser.add_argument("--threads", type=int, default=4, help="that compile at once in each of them")
    parser.add_argument("--child-seconds", type=float, default=120, help="after which a process is ended")
    parser.add_argument("--seconds", type=float, default=3600, help="after which nothing new begins")
    parser.add_argument("--child", nargs=4, metavar=("MODE", "ROW", "WHO", "THREADS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        mode, name, who, threads = asked.child
        child(mode, name, who, int(threads))
        return
    jobs = jobs_of(chosen(parser, "--rows", asked.rows, ROWS), asked.peers == "yes")
    jobs = jobs if asked.again else without_results(jobs, asked.out)
    run = Run(MODULE, jobs, asked.out, f"{DTYPE}, medians", time.monotonic() + asked.seconds, asked.child_seconds,
              asked.processes, asked.threads)  # fmt: skip
    run.both(_show, "implementations", compiles=not asked.skip_compile)


if __name__ == "__main__":
    main()
