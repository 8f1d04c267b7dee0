"""Compiles a plan's kernels for a GPU that needn't be there, and reads what they take of it.

The printed launcher runs on `meta` tensors with recorders in place of its kernels, so that every kernel is compiled
with exactly the arguments, options and specialisations of a real launch.
"""

import hashlib
import math
import re
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from smir.backends.triton_gpu.facts import Facts, is_tiny
from smir.backends.triton_gpu.frame import tensor_axes
from smir.backends.triton_gpu.interpreter import is_interpreting
from smir.backends.triton_gpu.options import Options, default_chunk, default_options, modelled_elements
from smir.backends.triton_gpu.packed import chunk_table
from smir.backends.triton_gpu.past import chunk_keywords, has_past
from smir.backends.triton_gpu.recording import recorded
from smir.backends.triton_gpu.runtime import launcher
from smir.backends.triton_gpu.spans import SPAN, has_spans, span_of
from smir.backends.triton_gpu.symbols import BUFFER, given_buffers, symbols, tensors
from smir.errors import BackendError
from smir.ir.dims import Dim
from smir.ir.kernel import FLOAT32, PRODUCT, WIDE, KernelPlan
from smir.ir.tile import CHUNK, DENSE, ONE, PAST, TOKEN, axis_parts
from smir.ir.tile_program import STEP

# Shared memory that one program may take, in bytes, by target.
SHARED_LIMIT = {
    "sm_75": 64 * 1024,
    "sm_80": 163 * 1024,
    "sm_86": 99 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "gfx942": 64 * 1024,
}
STACK_LIMIT = 1024
TARGETS = tuple(SHARED_LIMIT)


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes: bytes of shared memory and stack a thread (spills), registers, warps."""

    kernel: str
    target: str
    shared: int
    registers: int
    stack: int
    num_warps: int

    @property
    def within_limits(self) -> bool:
        return self.shared <= SHARED_LIMIT[self.target] and self.stack <= STACK_LIMIT

    def row(self) -> tuple[str, ...]:
        return tuple(
            str(x) for x in (self.kernel, self.target, self.shared, self.registers, self.stack, self.num_warps)
        )


HEADINGS = ("kernel", "target", "shared bytes", "registers", "stack bytes", "warps")


@dataclass(frozen=True)
class Workload:
    """Sizes of a compilation: dimensions by name, and what a caller would choose (None: the defaults).

    `packed`: the kernels that take a batch as packed sequences.
    """

    sizes: Mapping[str, int]
    dtype: str = "bfloat16"
    batch: int = 4
    time: int = 4096
    heads: int = 16
    chunk: int | None = None
    options: Options | None = None
    packed: bool = False


def compile_plan(
    plan: KernelPlan, target: str, workload: Workload, only: Collection[str] | None = None
) -> list[Resources]:
    """Compiles every kernel of the plan, or those named in `only`. Raises BackendError when one doesn't compile or the
    target is unknown."""
    if is_interpreting():
        raise BackendError("kernels can't be compiled while TRITON_INTERPRET=1", hint="unset it")
    launches = recorded_launches(plan, workload, target)
    return [compile_launch(*launch, target) for launch in launches if only is None or launch[0] in only]


def alive_elements(plan: KernelPlan, workload: Workload) -> dict[str, int]:
    """What the model says that each kernel holds at one time with its default options, in elements of tiles."""
    sizes = _axis_sizes(plan, workload)
    float32 = _product_type(plan, workload, sizes) == "float32"
    return modelled_elements(plan, sizes, workload.chunk or default_chunk(sizes, float32, plan.form), float32)


def table(records: Iterable[Resources]) -> list[tuple[str, ...]]:
    """Headings and rows for printing, a mark on what exceeds its target's limits."""
    rows = [(*HEADINGS, "within limits")]
    return rows + [(*r.row(), "yes" if r.within_limits else "NO") for r in records]


# ---- recording --------------------------------------------------------------------------------------------------


def launch_options(plan: KernelPlan, workload: Workload, target: str) -> Options:
    """Those that the workload gives, and for the plan's other kernels what the rule says."""
    sizes = _axis_sizes(plan, workload)
    float32 = _product_type(plan, workload, sizes) == "float32"
    chunk = workload.chunk or default_chunk(sizes, float32, plan.form, SHARED_LIMIT.get(target))
    span = 1 if workload.packed else span_of(plan, sizes, workload.time, chunk, float32)
    rule = default_options(plan, sizes, chunk, float32, 64 if target.startswith("gfx") else 32, span)
    return {**rule, **(workload.options or {})}


def recorded_launches(plan: KernelPlan, workload: Workload, target: str) -> list[tuple[str, Any, dict[str, Any]]]:
    """(kernel name, jitted function, launch keywords) of every launch that the plan would make."""
    import torch

    sizes = _axis_sizes(plan, workload)
    float32 = _product_type(plan, workload, sizes) == "float32"
    chunk = workload.chunk or default_chunk(sizes, float32, plan.form, SHARED_LIMIT.get(target))
    launch = launcher(plan, Facts.of_sizes(sizes, packed=workload.packed))
    module = import_module(launch.__module__)
    keywords: dict[str, Any] = {} if plan.form == STEP else {"chunk": chunk}
    if has_past(plan):
        keywords |= chunk_keywords(chunk, workload.time)
    precision = "ieee" if target.startswith("gfx") else module.PRECISION
    inverse = "ieee" if target.startswith("gfx") else module.SHORT_INVERSE
    function, launches = recorded(launch, [k.name for k in plan.kernels], runs=False, SHORT_INVERSE=inverse)
    span = 1 if workload.packed else span_of(plan, sizes, workload.time, chunk, float32)
    keywords |= {SPAN: span} if has_spans(plan) and not workload.packed else {}
    options = launch_options(plan, workload, target)
    keywords |= _meta_given(plan, workload, sizes, keywords.get("chunk", 1), span)
    if workload.packed:
        bounds = torch.empty(workload.batch + 1, dtype=torch.int32, device="meta")
        keywords |= chunk_table(bounds, workload.batch * workload.time, keywords.get("chunk", 1))
    function(*_meta_tensors(plan, workload, sizes), options=options, precision=precision, **keywords)
    return [(found.name, found.kernel, dict(found.keywords)) for found in launches]


def _axis_sizes(plan: KernelPlan, workload: Workload) -> dict[str, int]:
    """The size of every axis that a tensor of the plan has."""
    axes = {axis for leaf in tensors(plan) for axis in tensor_axes(leaf.rows, leaf.cols, leaf.kind)}
    return {axis: Dim.parse(axis).size(workload.sizes) for axis in axes}


def _product_type(plan: KernelPlan, workload: Workload, sizes: Mapping[str, int]) -> str:
    return "float32" if is_tiny(sizes) else workload.dtype


def _meta_given(
    plan: KernelPlan, workload: Workload, sizes: Mapping[str, int], chunk: int, span: int
) -> dict[str, Any]:
    """What the forward pass would have saved, by launcher name."""
    import torch

    known, made = {**sizes, ONE: 1, CHUNK: chunk}, {}
    for b in given_buffers(plan):
        width = math.prod(known[part] for part in axis_parts(b.cols))
        chunks = -(-workload.time // (chunk * span)) * span
        shape = (workload.batch, workload.heads, chunks, known[b.rows], width)
        wide = "float64" if workload.dtype == FLOAT32 else FLOAT32
        types = {FLOAT32: FLOAT32, PRODUCT: _product_type(plan, workload, sizes), WIDE: wide}
        dtype = getattr(torch, types[b.dtype])
        made[symbols(plan)[BUFFER, b.name]] = torch.empty(shape, dtype=dtype, device="meta")
    return made


def _meta_tensors(plan: KernelPlan, workload: Workload, sizes: Mapping[str, int]) -> list[Any]:
    import torch

    made = []
    for leaf in tensors(plan):
        before = leaf.kind in (TOKEN, PAST)
        leading = (workload.batch, workload.time, workload.heads) if before else (workload.heads,)
        leading = (workload.heads, workload.time, workload.time) if leaf.kind == DENSE else leading
        dims = [sizes[axis] for axis in tensor_axes(leaf.rows, leaf.cols, leaf.kind)]
        made.append(torch.empty(*leading, *dims, dtype=getattr(torch, workload.dtype), device="meta"))
    return made


# ---- compiling --------------------------------------------------------------------------------------------------


def compile_launch(name: str, kernel: Any, keywords: dict[str, Any], target: str) -> Resources:
    """Compiles one launch; Triton keeps it, so that the launch itself finds it. Raises BackendError."""
    key = launch_key(name, kernel, keywords, target)
    if key not in _DONE:
        _DONE[key] = _resources(name, compiled_kernel(name, kernel, keywords, target), target)
    return _DONE[key]


def launch_key(name: str, kernel: Any, keywords: Mapping[str, Any], target: str) -> str:
    """The same for launches that compile to the same code: a hash of the text, of what it calls, and of all options."""
    source, names = _given_source(kernel, keywords), {p.name for p in kernel.params}
    options = sorted((k, v) for k, v in keywords.items() if k not in names)
    parts = (name, kernel.cache_key, source.signature, source.constants, source.attrs, options, target)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _given_source(kernel: Any, keywords: Mapping[str, Any]) -> Any:
    names = {p.name for p in kernel.params}
    return _source(kernel, {k: v for k, v in keywords.items() if k in names})


# Kernels of the same text and arguments, which many mixers share, are compiled once.
_DONE: dict[str, Resources] = {}


def machine_code(name: str, kernel: Any, keywords: Mapping[str, Any], target: str) -> str:
    """The text that one launch is assembled from: PTX or AMD's assembly. Raises BackendError."""
    return str(compiled_kernel(name, kernel, keywords, target).asm["amdgcn" if target.startswith("gfx") else "ptx"])


def compiled_kernel(name: str, kernel: Any, keywords: Mapping[str, Any], target: str) -> Any:
    """What Triton makes of one launch, with all its texts in `asm`. Raises BackendError."""
    import triton

    names = {p.name for p in kernel.params}
    options, source = {k: v for k, v in keywords.items() if k not in names}, _given_source(kernel, keywords)
    try:
        with triton.knobs.amd.scope():
            # the pass that transposes inside threads refuses some products of tiles of 64 rows (Triton 3.6)
            triton.knobs.amd.use_in_thread_transpose = False
            return triton.compile(source, target=_target(target), options=options)
    except Exception as error:
        raise BackendError(f"kernel {name} doesn't compile for {target}: {error}") from error


def _resources(name: str, compiled: Any, target: str) -> Resources:
    if target.startswith("gfx"):
        registers, stack = _amd_usage(compiled.asm["amdgcn"])
    else:
        registers, stack = _cuda_usage(compiled.asm["cubin"])
    return Resources(name, target, compiled.metadata.shared, registers, stack, compiled.metadata.num_warps)


def _target(target: str) -> Any:
    from triton.backends.compiler import GPUTarget

    if target not in SHARED_LIMIT:
        raise BackendError(f"unknown target {target}", hint="one of " + ", ".join(TARGETS))
    return GPUTarget("hip", target, 64) if target.startswith("gfx") else GPUTarget("cuda", int(target[3:]), 32)


def _source(kernel: Any, values: Mapping[str, Any]) -> Any:
    """The kernel with the signature that these arguments would have at a launch."""
    from triton.compiler import ASTSource

    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[Any]] = {}
    for position, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        free = parameter.do_not_specialize
        signature[parameter.name] = kind = _type(
            value, parameter.is_constexpr or (value == 1 if _is_int(value) else False)
        )
        if free and _is_int(value):
            signature[parameter.name] = kind = "i32"
        if kind == "constexpr":
            constants[parameter.name] = value
            if isinstance(value, str):  # as a launch has it: kernels compiled here are found by later launches
                attributes[(position,)] = []
        elif not free and (kind.startswith("*") or value % 16 == 0):
            attributes[(position,)] = [["tt.divisibility", 16]]
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _type(value: Any, is_constant: bool) -> str:
    if is_constant or value is None:
        return "constexpr"
    if _is_int(value):
        return "i32" if -(2**31) <= value < 2**31 else "i64"
    names = {"float64": "*fp64", "float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16", "int32": "*i32"}
    return names[str(value.dtype).removeprefix("torch.")]


# ---- resource figures -------------------------------------------------------------------------------------------


def _cuda_usage(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes a thread, as cuobjdump reports them."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        run = subprocess.run([str(tool), "-res-usage", file.name], capture_output=True, text=True, check=False)
    text = run.stdout + run.stderr
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    if not found:
        raise BackendError(f"cuobjdump reports no resources: {text[-500:]}")
    return int(found[1]), int(found[2])


def _amd_usage(assembly: str) -> tuple[int, int]:
    """Vector registers and scratch bytes a thread, from the kernel's descriptor."""
    registers = re.search(r"\.vgpr_count:\s+(\d+)", assembly)
    scratch = re.search(r"\.private_segment_fixed_size:\s+(\d+)", assembly)
    if not registers or not scratch:
        raise BackendError("the AMD assembly reports no resources")
    return int(registers[1]), int(scratch[1])
