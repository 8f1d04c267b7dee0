"""What the hottest kernels execute: their sm_90 instructions, counted ahead of time, against what a card can issue.

    python -m benchmarks.kernel_instructions [--kernels gla:backward:output,..]

Needs no GPU. A kernel's loop over levels, or over chunks, is counted as often as it runs, everything else once. A
multiprocessor issues four instructions (of 32 threads each) a cycle: the bound in milliseconds is what all programs
would take if every cycle issued four, at the highest clock of an H200.
"""

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import smir
from benchmarks.kernel_profile import problem
from benchmarks.report import publish
from smir.backends.triton_gpu import tuning
from smir.backends.triton_gpu.ahead_of_time import compile_launch, compiled_kernel
from smir.backends.triton_gpu.options import DEFAULT_CHUNK
from smir.backends.triton_gpu.recording import KernelLaunch
from smir.calls.execution import cut_in_time
from smir.ir.kernel import KernelPlan
from smir.ir.tile_program import CHUNKED
from smir.tuning.passes import passes
from smir.tuning.precompile import Compiler

NAME, TARGET, SHAPE = "kernel_instructions", "sm_90", (4, 4096, 16)
KERNELS = "gla:forward:shared,gla:backward:output,kda:backward:output,gated_delta_rule:backward:carry_d_S"
PROCESSORS, CLOCK, ISSUED = 132, 1.98e9, 4
# What instructions do, by the beginnings of their names.
KINDS = {
    "products": ("HGMMA", "HMMA", "WARPGROUP"),
    "shared memory": ("LDS", "STS", "LDSM", "STSM", "BAR", "SHFL", "MOVM"),
    "global memory": ("LDG", "STG", "LDGSTS", "UTMA"),
    "spills": ("LDL", "STL"),
    "exp": ("MUFU",),
    "floating point": ("FADD", "FMUL", "FFMA", "FSEL", "FSETP", "FMNMX", "F2F", "HADD", "HMUL", "HFMA"),
}
LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*)$", re.MULTILINE)
COLUMNS = ("kernel", "programs", "warps", "registers", "stack bytes", "instructions", *KINDS, "other", "issue ms")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", default=KERNELS, help="spec:pass:kernel, with commas between them")
    asked = parser.parse_args(arguments)
    rows = [row(*name.split(":")) for name in asked.kernels.split(",")]
    title = f"instructions of one program's warp for {TARGET}, {'x'.join(map(str, SHAPE))}, K = V = 128, bfloat16"
    publish(NAME, title, COLUMNS, rows)


def row(spec: str, side: str, name: str) -> tuple[Any, ...]:
    """Counts of one kernel."""
    launch = next(x for x in launches(spec, side) if x.name == name)
    what = launch.name, launch.kernel, dict(launch.keywords), TARGET
    resources, code = compile_launch(*what), assembly(compiled_kernel(*what).asm["cubin"])
    counts = executed(code, int(launch.keywords.get("LEVELS") or launch.keywords.get("chunks", 1)))
    kinds = Counter[str]()
    for instruction, count in counts.items():
        kinds[next((k for k, names in KINDS.items() if instruction.startswith(names)), "other")] += count
    total, programs = sum(counts.values()), prod(launch.grid)
    milliseconds = 1e3 * total * resources.num_warps * programs / (PROCESSORS * ISSUED * CLOCK)
    return (f"{spec} {side} {name}", programs, resources.num_warps, resources.registers, resources.stack, total,
            *(kinds[k] for k in (*KINDS, "other")), milliseconds)  # fmt: skip


def launches(spec: str, side: str) -> list[KernelLaunch]:
    """The launches of one pass of a training step, on tensors without data."""
    done = smir.compile(spec, backend="triton").compilation
    asked = problem(done, SHAPE)
    without_data, recorded = Compiler(asked), dict[str, list[KernelLaunch]]()

    def prepare(which: str, plan: KernelPlan, arrays: Any) -> Any:
        cut = cut_in_time(plan, arrays, DEFAULT_CHUNK)
        results, recorded[which] = tuning.launches_on(cut, arrays, DEFAULT_CHUNK, {})
        return lambda *given: (results, {})

    found = passes(done, CHUNKED, frozenset(asked.wanted))
    found.run(prepare, without_data.arrays, without_data.cotangent)
    return recorded[side]


def assembly(cubin: bytes) -> str:
    """The machine code as text."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([str(tool), "-sass", file.name], capture_output=True, text=True, check=True).stdout


def executed(text: str, times: int) -> Counter[str]:
    """How often each instruction runs: those between a backward branch and its target as often as the loop does."""
    found = [(int(m[1], 16), m[2].split(".")[0], m[3]) for m in LINE.finditer(text)]
    found = [x for x in found if x[1] != "NOP"]
    jumps = [(at, re.search(r"0x([0-9a-f]+)", rest)) for at, name, rest in found if name == "BRA"]
    loops = [(int(target[1], 16), at) for at, target in jumps if target and int(target[1], 16) < at]
    begin, end = max(loops, key=lambda x: x[1] - x[0], default=(0, -1))
    counts = Counter[str]()
    for at, name, _ in found:
        counts[name] += times if begin <= at <= end else 1
    return counts


if __name__ == "__main__":
    main()
