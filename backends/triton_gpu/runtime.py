"""Runs kernel plans on a GPU, or on CPU tensors in Triton's interpreter."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from smir.backends.triton_gpu.assembler import prepare_assembler
from smir.backends.triton_gpu.cache import import_package, write_package
from smir.backends.triton_gpu.emit import emit
from smir.backends.triton_gpu.facts import Facts, is_tiny
from smir.backends.triton_gpu.first_call import compile_together, uncompiled
from smir.backends.triton_gpu.fitting import fit, shared_limit, too_large
from smir.backends.triton_gpu.frame import tensor_axes
from smir.backends.triton_gpu.interpreter import is_interpreting, prepare_interpreter
from smir.backends.triton_gpu.limits import check_programs, check_reach, within_reach
from smir.backends.triton_gpu.options import Options, default_chunk, default_options
from smir.backends.triton_gpu.packed import chunk_tables, most_chunks
from smir.backends.triton_gpu.past import chunk_keywords, has_past
from smir.backends.triton_gpu.segments import FEWEST_SEGMENTS, SEGMENTS, has_segments, nominal_sequences, segment_count
from smir.backends.triton_gpu.spans import SPAN, has_spans, span_of
from smir.backends.triton_gpu.symbols import (
    BUFFER,
    FINAL,
    INITIAL,
    final_stores,
    given_buffers,
    is_forward,
    state_carries,
    symbols,
    tensors,
)
from smir.errors import BackendError
from smir.ir.kernel import FLOAT32, PRODUCT, WIDE, KernelPlan
from smir.ir.segment import FILLED
from smir.ir.segment import POSITION as SEEN
from smir.ir.sizes import CU_SEQLENS
from smir.ir.tile import DENSE, PAST, TOKEN
from smir.ir.tile_program import OUTPUT as Y
from smir.ir.tile_program import STEP

Tensor = Any


def run_triton(
    plan: KernelPlan,
    arrays: Mapping[str, Tensor],
    states: Mapping[str, Tensor] | None = None,
    chunk: int | None = None,
    options: Options | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The output `[B, T, H, *dims]` of a forward plan and the final states `[B, H, *dims]` (float32)."""
    results, final = run_triton_results(plan, arrays, states, chunk, options)
    return results[Y], final


def run_triton_results(
    plan: KernelPlan,
    arrays: Mapping[str, Tensor],
    states: Mapping[str, Tensor] | None = None,
    chunk: int | None = None,
    options: Options | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All results by tensor, with the buffers that the plan saves, and the final states `[B, H, *dims]` (float32).

    `arrays` are torch tensors in canonical layout, all on one CUDA device (with TRITON_INTERPRET=1: on the CPU).
    `chunk` is a power of two from 16 on (None: by a rule on sizes and type); `options` replaces launch options by
    kernel name (blocks, num_warps, ..). Raises BackendError when there is no such device, a tensor's type has no
    kernel, or a kernel needs more memory on the chip than the device has.
    """
    return prepare(plan, arrays, chunk, options)(arrays, states or {})


@dataclass(frozen=True)
class Launch:
    """A plan that is ready for tensors of certain shapes, types and one device: nothing but the launches is left.

    `inputs` are names and kinds of the tensors in the launcher's order; `buffers` and `initial` its keywords for given
    buffers and initial states, by name; `keywords` what is the same in every call. Strides may differ between calls.
    """

    launch: Callable[..., tuple[Any, dict[str, Tensor]]]
    inputs: tuple[tuple[str, str], ...]
    buffers: tuple[tuple[str, str], ...]
    initial: tuple[tuple[str, str], ...]
    keywords: Mapping[str, Any]
    forward: bool
    packed: bool
    segment: bool
    tokens: int
    final: Mapping[str, str]
    # kernels that the first call compiles together
    cold: list[str] = field(default_factory=list)

    def __call__(
        self,
        arrays: Mapping[str, Tensor],
        states: Mapping[str, Tensor],
        final: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All results by tensor, and the final states. Raises BackendError for a kernel too large for the device.

        The step form writes final states into those tensors of `final` that there are, contiguous ones.
        """
        chunk = self.keywords.get("past_chunk", self.keywords.get("chunk", 1))
        inputs = [within_reach(arrays[name], kind, chunk) for name, kind in self.inputs]
        given = {keyword: _readable(states[name]) for name, keyword in self.initial if name in states}
        given |= {self.final[name]: tensor for name, tensor in final.items()}
        given |= {keyword: arrays[name] for name, keyword in self.buffers}
        if self.segment:
            given |= {name: states[name] for name in (SEEN, FILLED) if name in states}
        try:
            with _on_device(inputs[0]):
                if self.packed:
                    given |= chunk_tables(arrays[CU_SEQLENS], self.tokens, chunk)
                if self.cold:
                    self._compile(inputs, given, chunk)
                results, ends = self.launch(*inputs, **given, **self.keywords)
        except _out_of_resources() as error:
            named = f"of {', '.join(self.keywords['options'])}"
            raise too_large(named, f"{error.required} of {error.name}", str(error.limit), chunk) from error
        except _out_of_memory() as error:
            # all memory is allocated before the first launch
            error.add_note("A mixer's kernels need this memory for their results, and for states between chunks. "
                           "States that were given are as they were.")  # fmt: skip
            raise
        return {Y: results} if self.forward else results, ends

    def _compile(self, inputs: list[Tensor], given: Mapping[str, Any], chunk: int) -> None:
        """All kernels, with blocks that fit this device."""

        def compiled() -> dict[str, int]:
            return compile_together(self.launch, self.cold, inputs, {**given, **self.keywords})

        fit(compiled, self.keywords["options"], shared_limit(inputs[0].device), chunk)
        self.cold.clear()


def _readable(state: Tensor) -> Tensor:
    """An initial state in a type that kernels read."""
    return state.float() if state.dtype.itemsize > 4 else state


def prepare(
    plan: KernelPlan, arrays: Mapping[str, Tensor], chunk: int | None = None, options: Options | None = None
) -> Launch:
    """Everything about `run_triton_results` that shapes, types and the device settle; raises what it raises."""
    inputs = {leaf.name: arrays[leaf.name] for leaf in tensors(plan)}
    _check_tensors(inputs)
    sizes = sizes_of(plan, arrays)
    heads = {leaf.name: int(arrays[leaf.name].shape[2]) for leaf in tensors(plan) if leaf.kind in (TOKEN, PAST)}
    float32, segment = product_type(plan, arrays).itemsize == 4, has_past(plan)
    limit = shared_limit(next(iter(inputs.values())).device)
    chunk = default_chunk(sizes, float32, plan.form, limit) if chunk is None else chunk
    _check_chunk(plan, chunk)
    keywords = {} if plan.form == STEP else {"chunk": chunk}
    if segment:
        keywords = chunk_keywords(chunk, _tokens(plan, arrays)[1])
    called, packed = symbols(plan), CU_SEQLENS in arrays
    segments = max(_segments(plan, arrays, chunk), FEWEST_SEGMENTS) if has_segments(plan) else 1
    keywords |= {SEGMENTS: segments} if has_segments(plan) else {}
    if packed and any(leaf.kind == DENSE for leaf in tensors(plan)):
        hint = "call it for each sequence"
        raise BackendError("packed sequences with a parameter for every two positions", hint=hint)
    batch, tokens = _tokens(plan, arrays)
    span = 1 if packed else span_of(plan, sizes, tokens, chunk, float32)
    keywords |= {SPAN: span} if has_spans(plan) and not packed else {}
    walked = None if packed or plan.form == STEP else nominal_sequences(tokens) * max(heads.values())
    chosen = {**default_options(plan, sizes, chunk, float32, lanes(), span, walked), **(options or {})}
    sequences, chunks = batch, batch * -(-tokens // (1 if plan.form == STEP else chunk))
    if packed:
        sequences = len(arrays[CU_SEQLENS]) - 1
        chunks = most_chunks(tokens, sequences, 1 if plan.form == STEP else chunk)
    check_reach({leaf.name: (leaf.kind, inputs[leaf.name]) for leaf in tensors(plan)}, max(heads.values()), chunk)
    check_programs(plan, sizes, sequences * max(heads.values()), chunks * max(heads.values()), chosen, segments)
    return Launch(
        launch=launcher(plan, Facts.of_sizes(sizes, heads, packed)),
        inputs=tuple((leaf.name, leaf.kind) for leaf in tensors(plan)),
        buffers=tuple((b.name, called[BUFFER, b.name]) for b in given_buffers(plan)),
        initial=tuple((name, called[INITIAL, name]) for name in state_carries(plan)),
        keywords={"options": chosen, "dtype": common_type(plan, arrays), **keywords},
        forward=is_forward(plan),
        packed=packed,
        segment=segment,
        tokens=tokens,
        final={name: called[FINAL, name] for name in final_stores(plan)} if plan.form == STEP else {},
        cold=uncompiled([k.name for k in plan.kernels]),
    )


def is_starving(plan: KernelPlan, arrays: Mapping[str, Tensor], chunk: int) -> bool:
    """Whether sequences are so long, and walks along them so few, that segments of them should be walked at once."""
    return plan.form != STEP and CU_SEQLENS not in arrays and _segments(plan, arrays, chunk) > 1


def _segments(plan: KernelPlan, arrays: Mapping[str, Tensor], chunk: int) -> int:
    heads = max(int(arrays[x.name].shape[2]) for x in tensors(plan) if x.kind in (TOKEN, PAST))
    return segment_count(plan, sizes_of(plan, arrays), heads, _tokens(plan, arrays)[1], chunk)


def sizes_of(plan: KernelPlan, arrays: Mapping[str, Tensor]) -> dict[str, int]:
    """The size of every axis that an array shows."""
    sizes: dict[str, int] = {}
    for leaf in tensors(plan):
        shape = arrays[leaf.name].shape[3 if leaf.kind in (TOKEN, PAST) else 1 :]
        sizes |= dict(zip(tensor_axes(leaf.rows, leaf.cols, leaf.kind), map(int, shape), strict=False))
    return sizes


def _tokens(plan: KernelPlan, arrays: Mapping[str, Tensor]) -> tuple[int, int]:
    """Batch and tokens."""
    first = next(arrays[leaf.name] for leaf in tensors(plan) if leaf.kind == TOKEN)
    return int(first.shape[0]), int(first.shape[1])


@lru_cache(maxsize=256)
def launcher(plan: KernelPlan, facts: Facts) -> Any:
    """The `launch` function of the plan's printed package."""
    if is_interpreting():
        prepare_interpreter()
    else:
        prepare_assembler()
    return import_package(write_package(emit(plan, facts))).launch


def _check_chunk(plan: KernelPlan, chunk: int) -> None:
    if plan.form != STEP and (chunk < 16 or chunk & (chunk - 1)):
        raise BackendError(f"chunk size {chunk}", hint="Triton kernels take powers of two from 16 on")


def _check_tensors(inputs: Mapping[str, Tensor]) -> None:
    import torch

    supported = (torch.float32, torch.bfloat16, torch.float16)
    for name, value in inputs.items():
        if value.dtype not in supported:
            raise BackendError(f"{name} is {value.dtype}", hint="Triton kernels take float32, bfloat16 and float16")
    for name, value in inputs.items():
        if value.device.type not in ("cuda", "meta") and not is_interpreting():
            hint = "move the tensors to a CUDA device, or use backend='numpy'"
            raise BackendError(f"{name} is on {value.device}; Triton kernels run on a GPU", hint=hint)
    if len({value.device for value in inputs.values()}) > 1:
        raise BackendError("the tensors are on different devices", hint="move them all to one device")


def product_type(plan: KernelPlan, arrays: Mapping[str, Tensor]) -> Any:
    """The type of products' operands, and of what the plan saves in it (as the printed launcher says)."""
    import torch

    return torch.float32 if is_tiny(sizes_of(plan, arrays)) else common_type(plan, arrays)


def buffer_types(plan: KernelPlan, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
    """The type of a buffer by what the plan calls it (as the printed launcher says)."""
    import torch

    wide = torch.float64 if common_type(plan, arrays) == torch.float32 else torch.float32
    return {FLOAT32: torch.float32, PRODUCT: product_type(plan, arrays), WIDE: wide}


def common_type(plan: KernelPlan, arrays: Mapping[str, Tensor]) -> Any:
    """The type of an output: the inputs' only 16-bit type, else float32 (as the printed launcher says)."""
    import torch

    short = {a.dtype for a in (arrays[x.name] for x in tensors(plan) if x.kind == TOKEN) if a.dtype.itemsize < 4}
    return short.pop() if len(short) == 1 else torch.float32


def lanes() -> int:
    """Threads in a warp: AMD's data centre GPUs have 64."""
    import torch

    return 64 if torch.version.hip else 32


def _out_of_resources() -> Any:
    from triton.runtime.errors import OutOfResources

    return OutOfResources


def _out_of_memory() -> type[Exception]:
    import torch

    return torch.OutOfMemoryError  # type: ignore[no-any-return]


def _on_device(tensor: Tensor) -> Any:
    """Makes the tensor's device the current one; most often it is."""
    import torch

    if not tensor.is_cuda or tensor.device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(tensor.device)
