"""What the tuner varies in kernels on a GPU, what it may leave out unmeasured, and how long each kernel takes."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smir.backends.triton_gpu.ahead_of_time import SHARED_LIMIT, STACK_LIMIT, Resources, compile_launch
from smir.backends.triton_gpu.facts import block_name, is_tiny, padded
from smir.backends.triton_gpu.interpreter import is_interpreting
from smir.backends.triton_gpu.options import default_chunk, default_options, smallest_blocks, with_registers
from smir.backends.triton_gpu.recording import KernelLaunch, recording
from smir.backends.triton_gpu.runtime import Launch, lanes, prepare
from smir.ir.dims import Dim
from smir.ir.graph import walk
from smir.ir.kernel import GRID, Kernel, KernelPlan
from smir.ir.tile import LEVEL_OPS
from smir.ir.tile_program import SCAN, STEP

CHUNKS, SCAN_CHUNKS = (32, 64, 128), (16, 32)
WIDEST_BLOCK, FEWEST_WARPS, MOST_WARPS, MOST_STAGES = 256, 2, 16, 4
# A kernel is launched as often as fits into this time, in groups of which the median counts.
TIMED_SECONDS, GROUPS, FEWEST, MOST = 0.03, 3, 2, 50

Options = dict[str, int]


def device_label(device: str) -> str:
    """The GPU with its number of processors, for example `NVIDIA H200, 132 processors`."""
    import torch

    if is_interpreting():
        return "Triton's interpreter"
    if not device.startswith("cuda"):
        return "no GPU"
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.multi_processor_count} processors"


def compiler_label() -> str:
    """Of what turns printed kernels into machine code."""
    import triton

    return f"triton {'.'.join(triton.__version__.split('.')[:2])}"


def target_of(device: str) -> str | None:
    """The target that kernels can be compiled for beforehand; None for a GPU whose limits aren't known."""
    import torch

    if is_interpreting() or torch.version.hip or not device.startswith("cuda"):
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}" if f"sm_{major}{minor}" in SHARED_LIMIT else None


def chunks(form: str, sizes: Mapping[str, int], tokens: int, dtype: str) -> tuple[int, ...]:
    """Chunk sizes worth a measurement, that of the rule first. None is longer than the sequence needs."""
    if form == STEP:
        return (1,)
    usual = default_chunk(sizes, dtype == "float32", form)
    others = [c for c in (SCAN_CHUNKS if form == SCAN else CHUNKS) if c != usual and c <= padded(tokens)]
    return (usual, *others)


def usual_options(plan: KernelPlan, sizes: Mapping[str, int], chunk: int, dtype: str) -> dict[str, Options]:
    """The options of every kernel by the rule."""
    return default_options(plan, sizes, chunk, dtype == "float32" or is_tiny(sizes), lanes())


def moves(kernel: Kernel, options: Options, sizes: Mapping[str, int]) -> tuple[Options, ...]:
    """Options next to these: other warps, blocks and stages, and blocks with warps. The likeliest first."""
    found = [{**options, "num_warps": w} for w in _near(options["num_warps"], FEWEST_WARPS, MOST_WARPS)]
    blocks = list(_blocks(kernel, options, sizes))
    found += blocks
    # stages overlap the loads of a loop with its products
    if kernel.loops or any(n.op in LEVEL_OPS for n in walk(kernel.roots())):
        stages = (options["num_stages"] + 1, options["num_stages"] - 1)
        found += [{**options, "num_stages": s} for s in stages if 1 <= s <= MOST_STAGES]
    found += [{**b, "num_warps": w} for b in blocks for w in _near(options["num_warps"], FEWEST_WARPS, MOST_WARPS)]
    return tuple({tuple(sorted(o.items())): o for o in map(with_registers, found)}.values())


def _blocks(kernel: Kernel, options: Options, sizes: Mapping[str, int]) -> Iterator[Options]:
    smallest = smallest_blocks(kernel)
    for axis in (axis for axis, role in kernel.roles if role == GRID):
        name, least = block_name(axis), smallest.get(axis, 16)
        whole = padded(sizes.get(axis) or Dim.parse(axis).size(sizes), least)
        for block in _near(min(options[name], whole), least, min(whole, WIDEST_BLOCK)):
            yield {**options, name: block}


def _near(value: int, least: int, most: int) -> list[int]:
    return [v for v in (value // 2, value * 2) if least <= v <= most]


# ---- compiling --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compiled:
    """What a kernel takes of a GPU, and whether it may run at all."""

    resources: Resources

    @property
    def refused(self) -> str | None:
        """Why it needn't be tried: too much shared memory, or registers that spill far."""
        found, limit = self.resources, SHARED_LIMIT[self.resources.target]
        if found.shared > limit:
            return f"{found.shared} bytes of shared memory, of {limit}"
        return f"{found.stack} bytes of registers spilled" if found.stack > STACK_LIMIT else None


def compile_kernel(launches: Sequence[KernelLaunch], name: str, target: str) -> Compiled:
    """Compiles one kernel of a recorded plan and leaves it where launches find it. Raises BackendError."""
    found = next(x for x in launches if x.name == name)
    return Compiled(compile_launch(found.name, found.kernel, dict(found.keywords), target))


def launches_on(plan: KernelPlan, arrays: Mapping[str, Any], chunk: int, options: Mapping[str, Options]
                ) -> tuple[dict[str, Any], list[KernelLaunch]]:  # fmt: skip
    """Results and launches of a plan on `meta` tensors, of which nothing is computed."""
    launch, launches = recording(prepare(plan, arrays, chunk, dict(options)), _names(plan), runs=False)
    return launch(arrays, {})[0], launches


# ---- timing -----------------------------------------------------------------------------------------------------


def watched(runner: Launch, plan: KernelPlan) -> tuple[Launch, list[KernelLaunch]]:
    """The runner, and the launches that it makes from now on."""
    return recording(runner, _names(plan))


def kernel_seconds(launches: Iterable[KernelLaunch], names: Iterable[str]) -> dict[str, float]:
    """Median seconds of these kernels, each launched again on the tensors that it had."""
    wanted = set(names)
    return {x.name: seconds(x.again) for x in launches if x.name in wanted}


def seconds(run: Callable[[], object]) -> float:
    """Median seconds of a function's work on the GPU, after it has run once. Launches follow each other so closely
    that the time of launching doesn't count where work takes longer."""
    import torch

    if not torch.cuda.is_available():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    once = max(_timed(run, 1), 1e-6)
    repeats = max(FEWEST, min(MOST, int(TIMED_SECONDS / GROUPS / once)))
    return statistics.median(_timed(run, repeats) for _ in range(GROUPS))


def _timed(run: Callable[[], object], repeats: int) -> float:
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / repeats


def _names(plan: KernelPlan) -> list[str]:
    return [k.name for k in plan.kernels]
