"""What a user waits for on a GPU: first calls with nothing compiled, in a new process, and again; and the tuner's time.

    python -m benchmarks.gpu_first_call [--specs gla,kda] [--shape 4x4096x16x128] [--tune]

Every figure comes from a process of its own; `cold` has empty caches of Triton and SMIR, `new process` finds what that
left on disk. Imports, the compilation of the spec and the inputs aren't counted, the backward pass is.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SPECS = "scalar_decay,gla,gated_delta_rule,kda,mlstm,rwkv7"
KEYS = ("forward_s", "training_s", "again_ms", "tune_s", "usual_ms", "tuned_ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", default=SPECS, help="with commas between them")
    parser.add_argument("--shape", default="4x4096x16x128")
    parser.add_argument("--tune", action="store_true", help="also a cold search of 20 seconds")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(_child(asked.child, asked.shape, asked.tune)))
        return
    print(f"{'spec':<20}{'':<13}" + "".join(f"{key:>12}" for key in KEYS))
    for name in asked.specs.split(","):
        with tempfile.TemporaryDirectory() as home:
            for title in ("cold", "new process"):
                _show(name, title, _run(name, asked.shape, Path(home), tune=False))
        if asked.tune:
            with tempfile.TemporaryDirectory() as home:
                _show(name, "cold, tuned", _run(name, asked.shape, Path(home), tune=True))


def _run(name: str, shape: str, home: Path, tune: bool) -> dict[str, Any]:
    variables = {"TRITON_CACHE_DIR": str(home / "triton"), "SMIR_CACHE_DIR": str(home / "smir")}
    command = [sys.executable, "-m", "benchmarks.gpu_first_call", "--child", name, "--shape", shape]
    done = subprocess.run([*command, *["--tune"] * tune], capture_output=True, text=True, check=False,
                          env={**os.environ, **variables})  # fmt: skip
    return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()[-300:]}


def _show(name: str, title: str, row: dict[str, Any]) -> None:
    found = "".join(f"{format(row[key], '.2f') if key in row else '':>12}" for key in KEYS)
    print(f"{name:<20}{title:<13}{row.get('error') or found}", flush=True)


def _child(name: str, shape: str, tune: bool) -> dict[str, Any]:
    """A first forward call, a first training step, both again; or a search."""
    import torch

    import smir
    from benchmarks.gpu_runs import large_arguments

    batch, tokens, heads, size = map(int, shape.split("x"))
    mixer = smir.compile(name)
    given = large_arguments(mixer.spec, (batch, tokens, heads), lambda dim: {"N": 16, "M": 64}.get(dim, size))
    inputs = {n: x.bfloat16().requires_grad_() for n, x in given.items()}
    seed: Any = None
    if tune:
        report = mixer.tune(**inputs)
        best = report.rows[0]
        return {"tune_s": report.seconds, "usual_ms": best.usual, "tuned_ms": best.tuned}

    def forward() -> Any:
        with torch.no_grad():
            return mixer(**inputs)

    def training() -> None:
        nonlocal seed
        y = mixer(**inputs)
        seed = torch.randn_like(y) if seed is None else seed
        y.backward(seed)

    return {"forward_s": _seconds(forward), "training_s": _seconds(training), "again_ms": 1e3 * _seconds(training)}


def _seconds(run: Any) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
