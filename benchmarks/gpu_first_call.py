"""What a user waits for on a GPU: first calls with nothing compiled, in a new process, and again; and the tuner's time.

    python -m benchmarks.gpu_first_call [--specs gla,kda] [--tasks first,tuned]

Every figure comes from a process of its own; `cold` has empty caches of Triton and SMIR, `new process` finds what that
left on disk, `tuned` is a cold search of forward and backward. Imports, the compilation of the spec and the inputs
aren't counted. Nothing else should run on the machine.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import smir
from benchmarks.gpu_runs import Rows, Task, large_arguments, run

MODULE = "benchmarks.gpu_first_call"
SPECS = "scalar_decay gla gated_delta_rule kda mlstm rwkv7 hgrn softmax_causal".split()
SHAPE, SIZE = (4, 4096, 16), 128
SIZES = {"N": 16, "M": 64}
FIRST, TUNED = "first", "tuned"
COLD, NEW = "cold", "new process"


def first(name: str) -> Iterator[dict[str, Any]]:
    """Seconds of a first forward call and of the first training step after it, milliseconds of a second one."""
    with tempfile.TemporaryDirectory() as home:
        for case in (COLD, NEW):
            yield {"spec": name, "task": FIRST, "case": case, **_in_a_process(_calls, name, Path(home))}


def tuned(name: str) -> Iterator[dict[str, Any]]:
    """Seconds of a search, and milliseconds of a training step by rule and by what was found."""
    with tempfile.TemporaryDirectory() as home:
        yield {"spec": name, "task": TUNED, **_in_a_process(_search, name, Path(home))}


def _in_a_process(work: Callable[[str], dict[str, float]], name: str, home: Path) -> dict[str, float]:
    """What `work` finds in a new process, with caches in a folder."""
    os.environ |= {"TRITON_CACHE_DIR": str(home / "triton"), "SMIR_CACHE_DIR": str(home / "smir")}
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (name,))


def _arguments(name: str) -> tuple[Any, dict[str, Any]]:
    mixer = smir.compile(name)
    given = large_arguments(mixer.spec, SHAPE, lambda dim: SIZES.get(dim, SIZE))
    return mixer, {n: x.bfloat16().requires_grad_() for n, x in given.items()}


def _calls(name: str) -> dict[str, float]:
    import torch

    mixer, inputs = _arguments(name)

    def forward() -> None:
        with torch.no_grad():
            mixer(**inputs)

    def training() -> None:
        mixer(**inputs).sum().backward()

    (torch.ones(8, device="cuda", requires_grad=True) * 2).sum().backward()  # torch's own first backward pass
    return {"forward_s": _seconds(forward), "training_s": _seconds(training), "again_ms": 1e3 * _seconds(training)}


def _search(name: str) -> dict[str, float]:
    mixer, inputs = _arguments(name)
    report = mixer.tune(**inputs)
    return {"tune_s": report.seconds, "usual_ms": report.rows[0].usual, "tuned_ms": report.rows[0].tuned}


def _seconds(call: Callable[[], None]) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _summary(rows: Rows) -> None:
    for r in rows:
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in r.items() if k != "task"})


if __name__ == "__main__":
    tasks = {FIRST: Task(first, alone=True), TUNED: Task(tuned, alone=True)}
    sizes = f"bfloat16, [B, T, H] = {SHAPE}, dimensions {SIZE}, {SIZES}, {os.cpu_count()} processors"
    run(MODULE, __doc__, tasks, _summary, sizes, SPECS)
