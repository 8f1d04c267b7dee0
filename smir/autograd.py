"""Compiled mixers in torch's autograd: the forward plan as a recorded operation, the backward plan as its gradient.

Everything here is in canonical layout and runs on the call's backend: CPU tensors share their memory with the arrays
that numpy computes on, CUDA tensors go to Triton kernels as they are. Imported only where a gradient is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from smir.array_kinds import TORCH, convert, dtype_of
from smir.binding import Bound
from smir.compiler import Compilation, adjoint_plan, stateless_training_plan, training_plan
from smir.errors import GradientError
from smir.execution import Arrays, Backend, Runner
from smir.ir.kernel import KernelPlan
from smir.ir.tile_program import OUTPUT
from smir.passes.gradients.adjoint_program import PREFIX
from smir.passes.gradients.saved_values import TrainingPlan

Tensor = Any
FORWARD, BACKWARD, WITH_STATES = "forward", "backward", "backward with states"


def recorded_runner(done: Compilation, backend: Backend, form: str, bound: Bound, chunk: int) -> Runner:
    """Runs calls like this one: y and the final states are tensors that know where their gradients come from.

    What is computed, kept and later differentiated depends on which tensors require a gradient. Raises FormError for a
    mixer that only runs as written.
    """
    own = None if bound.states else stateless_training_plan(done, form, bound.recorded)
    return _Call(
        plan=own or training_plan(done, form, bound.recorded),
        with_states=None if own is None else adjoint_plan(done, form, bound.recorded),
        backend=backend,
        chunk=chunk,
        device=bound.device,
        arrays=tuple(bound.arrays),
        states=tuple(bound.states),
        final=(*(s.name for s in done.spec.states), *done.scaled_states.members),
        logs=frozenset(done.scaled_states.members),
    )


@dataclass(frozen=True)
class _Call:
    """What a recorded operation knows beside its tensors: how to run both passes, and the names of the tensors.

    It serves every call whose tensors have the same shapes, types, device and recording; `ready` are its two passes,
    each prepared when it first runs.
    """

    plan: TrainingPlan
    # the backward pass where final states have cotangents, if that of `plan` doesn't know them
    with_states: KernelPlan | None
    backend: Backend
    chunk: int
    device: str
    arrays: tuple[str, ...]
    states: tuple[str, ...]
    final: tuple[str, ...]
    logs: frozenset[str]
    ready: dict[str, Runner] = field(default_factory=dict)

    def __call__(self, arrays: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
        """y and the final states, recorded."""
        y, *final = _Mixing.apply(self, *arrays.values(), *states.values())
        return {OUTPUT: y}, dict(zip(self.final, final, strict=True))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the operation's arguments: inputs and parameters, then initial states."""
        return (*self.arrays, *self.states)

    @cached_property
    def read(self) -> tuple[str, ...]:
        """The arguments that the backward pass reads."""
        plans = [p for p in (self.plan.backward, self.with_states) if p is not None]
        starts = {c.state for p in plans for k in p.kernels for loop in k.loops for c in loop.scan.carries}
        used = {leaf.name for p in plans for leaf in p.leaves}
        return tuple(n for n in self.names if n in (starts if n in self.states else used))

    def forward(self, tensors: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """y with the final states, and the values that are kept."""
        results, final = self.run(FORWARD, self.plan.forward, tensors, {})
        found = [results[OUTPUT], *(final[name] for name in self.final)]
        return list(map(self.tensor, found)), [self.tensor(results[name]) for name in self.plan.kept]

    def backward(self, tensors: Mapping[str, Tensor], cotangents: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """Gradients by name, from the kept values and the arguments in `tensors`. A missing cotangent is zero."""
        d_y, *rest = cotangents
        seeds = {PREFIX + name: c for name, c in zip(self.final, rest, strict=True) if c is not None}
        given = {**tensors, PREFIX + OUTPUT: d_y}
        if self.with_states is not None and seeds:
            gradients, of_states = self.run(WITH_STATES, self.with_states, given, seeds)
        else:
            gradients, of_states = self.run(BACKWARD, self.plan.backward, given, seeds)
        found = {**gradients, **of_states}
        return {n: self.tensor(found[PREFIX + n]) for n in self.names if PREFIX + n in found}

    def run(
        self, which: str, plan: KernelPlan, tensors: Mapping[str, Tensor], seeds: Mapping[str, Tensor]
    ) -> tuple[Arrays, Arrays]:
        states = {n: t for n, t in tensors.items() if n in self.states}
        arrays = {n: t for n, t in tensors.items() if n not in self.states}
        if which not in self.ready:
            self.ready[which] = self.backend.prepare(plan, arrays, self.chunk)
        return self.ready[which](arrays, {**states, **seeds})

    def tensor(self, array: Any) -> Tensor:
        """A result as a tensor of its own type, numpy's without a copy."""
        return array if isinstance(array, torch.Tensor) else convert(array, TORCH, dtype_of(array), self.device)


class _Mixing(torch.autograd.Function):  # type: ignore[misc]
    """A call. Its arguments are a `_Call` and the tensors in its order, its results y and the final states."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        by_name = dict(zip(call.names, tensors, strict=True))
        found, kept = call.forward(by_name)
        ctx.mark_non_differentiable(*(t for name, t in zip(call.final, found[1:], strict=True) if name in call.logs))
        ctx.set_materialize_grads(False)
        ctx.call, ctx.output = call, (found[0].shape, found[0].dtype)
        ctx.shapes = [(t.shape, t.dtype) for t in tensors]
        ctx.save_for_backward(*(by_name[name] for name in call.read), *kept)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad[1:]
        if all(c is None for c in cotangents):
            return (None,) * (1 + len(needs))
        call, saved = ctx.call, ctx.saved_tensors
        shape, dtype = ctx.output
        with torch.no_grad():
            # one number seen as a whole tensor
            d_y = (
                torch.zeros((), dtype=dtype, device=call.device).expand(shape)
                if cotangents[0] is None
                else cotangents[0]
            )
            tensors = dict(zip((*call.read, *call.plan.kept.values()), saved, strict=True))
            found = call.backward(tensors, (d_y, *cotangents[1:]))
            gradients = [
                _gradient(found.get(name), like, call.device) if need else None
                for name, need, like in zip(call.names, needs, ctx.shapes, strict=True)
            ]
        if torch.is_grad_enabled():
            gradients = _once_only(gradients, [t for t in (*saved, *cotangents) if t is not None and t.requires_grad])
        return (None, *gradients)


def _gradient(found: Tensor | None, like: tuple[Any, Any], device: str) -> Tensor:
    """A gradient in its argument's shape and type; what nothing depends on has the gradient zero."""
    shape, dtype = like
    return torch.zeros(shape, dtype=dtype, device=device) if found is None else found.to(dtype)


def _once_only(gradients: list[Tensor | None], depends: list[Tensor]) -> list[Tensor | None]:
    """The gradients as functions of `depends` whose own derivative is an error: never silently zero."""
    there = [g for g in gradients if g is not None]
    if not depends:
        return gradients
    marked = iter(_Once.apply(len(there), *there, *depends))
    return [None if g is None else next(marked) for g in gradients]


class _Once(torch.autograd.Function):  # type: ignore[misc]
    """Gradients that can't be differentiated again."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        raise GradientError(
            "the gradients of a mixer can't be differentiated again: there are no second derivatives",
            hint="detach() them, or leave create_graph=True out",
        )
