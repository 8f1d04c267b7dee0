"""Gradients of traced calls with packed sequences: what is kept has shapes that depend on their lengths, which no trace
knows, so the backward pass is a training step of its own that starts from the arguments."""

from collections.abc import Sequence
from typing import Any

import torch

from smir.torch_side.operators import LIBRARY, calls_of, in_own_memory, run_call

Tensor = Any

# The gradients of those of mix's `tensors` that are numbered `wanted`.
LIBRARY.define(
    "packed_backward(Tensor[] tensors, Tensor cu_seqlens, Tensor?[] cotangents, int[] wanted, str[] state, "
    "bool return_state, str mixer) -> Tensor[]"
)


def _backward(
    tensors: Sequence[Tensor],
    cu_seqlens: Tensor,
    cotangents: Sequence[Tensor | None],
    wanted: Sequence[int],
    *rest: Any,
) -> list[Tensor]:
    with torch.enable_grad():
        recorded = [t.detach().requires_grad_(n in wanted) for n, t in enumerate(tensors)]
        results = run_call(recorded, cu_seqlens, *rest)
        known = [(r, c) for r, c in zip(results, cotangents, strict=True) if c is not None and r.requires_grad]
        outputs, seeds = zip(*known, strict=True)
        sources = [recorded[n] for n in wanted]
        found = torch.autograd.grad(outputs, sources, seeds, allow_unused=True, materialize_grads=True)
    return in_own_memory(found, [*tensors, *seeds])


def _fake_backward(
    tensors: Sequence[Tensor], cu_seqlens: Tensor, cotangents: Any, wanted: Sequence[int], *rest: Any
) -> list[Tensor]:
    return [tensors[n].new_empty(tensors[n].shape) for n in wanted]


class PackedMixing(torch.autograd.Function):  # type: ignore[misc]
    """A call of `smir::mix` with packed sequences. `rest` are its last arguments."""

    @staticmethod
    def forward(ctx: Any, cu_seqlens: Tensor, rest: tuple[Any, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        found = torch.ops.smir.mix(tensors, cu_seqlens, *rest)
        ctx.set_materialize_grads(False)
        ctx.rest = rest
        ctx.save_for_backward(cu_seqlens, *tensors)
        call_states = calls_of(rest[-1]).call_states
        logs = call_states.scaled.logs
        ctx.mark_non_differentiable(*(f for n, f in zip(call_states.names, found[1:], strict=False) if n in logs))
        return tuple(found)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        cu_seqlens, *tensors = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        wanted = [n for n, need in enumerate(needs) if need]
        if all(c is None for c in cotangents):
            return (None,) * (2 + len(needs))
        found = iter(torch.ops.smir.packed_backward(tensors, cu_seqlens, cotangents, wanted, *ctx.rest))
        return (None, None, *(next(found) if need else None for need in needs))


LIBRARY.impl("packed_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("smir::packed_backward", _fake_backward, lib=LIBRARY)
