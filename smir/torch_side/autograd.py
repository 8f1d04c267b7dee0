"""Compiled mixers in torch's autograd: the forward plan as a recorded operation, the backward plan as its gradient.

With `create_graph=True` the backward pass is recorded too; its gradient is the plan of second derivatives, which
computes everything from arguments and cotangents.

Everything here is in canonical layout and runs on the call's backend: CPU tensors share their memory with the arrays
that numpy computes on, CUDA tensors go to Triton kernels as they are. Imported only where a gradient is asked for.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from smir.calls.array_kinds import TORCH, convert, dtype_of
from smir.calls.binding import Bound
from smir.calls.execution import Arrays, Backend, Runner
from smir.compilation import Compilation
from smir.derivatives import adjoint_plan, stateless_training_plan, training_plan
from smir.errors import GradientError
from smir.ir.kernel import KernelPlan
from smir.ir.sizes import CU_SEQLENS
from smir.ir.tile_program import OUTPUT
from smir.passes.gradients.adjoint_program import PREFIX
from smir.passes.gradients.saved_values import TrainingPlan
from smir.torch_side.second_derivatives import AGAIN, needs_one_chunk, second_plan

Tensor = Any
Tensors = Mapping[str, Tensor]
# Shapes and types by name.
Likes = Mapping[str, tuple[Any, Any]]
FORWARD, BACKWARD, WITH_STATES = "forward", "backward", "backward with states"


def recorded_runner(done: Compilation, backend: Backend, form: str, bound: Bound, chunk: int) -> Runner:
    """Runs calls like this one: y and the final states are tensors that know where their gradients come from.

    What is computed, kept and later differentiated depends on which tensors require a gradient. Raises FormError for a
    mixer that only runs as written.
    """
    names = tuple(bound.arrays), tuple(bound.states)
    return recorded_call(done, backend, form, chunk, bound.device, *names, bound.recorded)


def recorded_call(
    done: Compilation,
    backend: Backend,
    form: str,
    chunk: int,
    device: str,
    arrays: tuple[str, ...],
    states: tuple[str, ...],
    recorded: frozenset[str],
) -> "Call":
    """The same for arrays and initial states of these names, of which those that are `recorded` get gradients."""
    own = None if states else stateless_training_plan(done, form, recorded)
    return Call(
        done=done,
        form=form,
        plan=own or training_plan(done, form, recorded),
        with_states=None if own is None else adjoint_plan(done, form, recorded),
        from_arguments=adjoint_plan(done, form, recorded),
        backend=backend,
        chunk=chunk,
        device=device,
        arrays=arrays,
        states=states,
        final=done.scaled_states.carried_names,
        logs=frozenset(done.scaled_states.members),
    )


@dataclass(frozen=True)
class Call:
    """What a recorded operation knows beside its tensors: how to run both passes, and the names of the tensors.

    It serves every call whose tensors have the same shapes, types, device and recording; `ready` are its two passes,
    each prepared when it first runs.
    """

    done: Compilation
    form: str
    plan: TrainingPlan
    # the backward pass where final states have cotangents, if that of `plan` doesn't know them
    with_states: KernelPlan | None
    # the backward pass without anything kept, which second derivatives differentiate
    from_arguments: KernelPlan
    backend: Backend
    chunk: int
    device: str
    arrays: tuple[str, ...]
    states: tuple[str, ...]
    final: tuple[str, ...]
    logs: frozenset[str]
    ready: dict[Hashable, Runner] = field(default_factory=dict)

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
        """The arguments that backward passes read, those among them that the first finds in what was kept."""
        plans = [p for p in (self.plan.backward, self.with_states, self.from_arguments) if p is not None]
        starts = {c.state for p in plans for k in p.kernels for loop in k.loops for c in loop.scan.carries}
        used = {leaf.name for p in plans for leaf in p.leaves}
        return tuple(n for n in self.names if n == CU_SEQLENS or n in (starts if n in self.states else used))

    @cached_property
    def seeds(self) -> tuple[str, ...]:
        """The names of the cotangents of final states."""
        return tuple(PREFIX + name for name in self.final)

    def forward(self, tensors: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        """y with the final states, and the values that are kept."""
        results = self.run(FORWARD, self.plan.forward, *self.split(tensors))
        found = [results[name] for name in (OUTPUT, *self.final)]
        return found, [results[name] for name in self.plan.kept]

    def backward(self, tensors: Tensors, kept: Tensors) -> dict[str, Tensor]:
        """Gradients by name, from the arguments, `d_y` and the cotangents of final states that are in `tensors`, and
        from the kept values. A missing cotangent is zero."""
        arrays, states = self.split(tensors)
        if self.with_states is not None and not states.keys().isdisjoint(self.seeds):
            found = self.run(WITH_STATES, self.with_states, arrays, states)
        else:
            found = self.run(BACKWARD, self.plan.backward, {**arrays, **kept}, states)
        return {n: found[PREFIX + n] for n in self.names if PREFIX + n in found}

    def gradients(self, tensors: Tensors, kept: Tensors, likes: Likes) -> tuple[Tensor, ...]:
        """Those named in `likes`, in the shapes and types that it has."""
        found = self.backward(tensors, kept)
        return tuple(_gradient(found.get(name), like, self.device) for name, like in likes.items())

    def keeping_nothing(self) -> "Call":
        """The same, whose backward pass starts from the arguments."""
        plan = TrainingPlan(self.done.plans[self.form], self.from_arguments, ())
        return replace(self, plan=plan, with_states=None)

    def second(self, tensors: Tensors, gradients: Tensors, again: Collection[str]) -> dict[str, Tensor]:
        """The gradients by the names in `again`, which `tensors` has, from the cotangents `gradients` of gradients.

        Raises GradientError where only numpy has tiles that are large enough.
        """
        if needs_one_chunk(self.done) and self.backend.name != "numpy":
            raise GradientError(
                f"second derivatives of {self.done.spec.name} take tiles as large as the sequence, which kernels on a "
                "GPU can't hold",
                hint="call the mixer with CPU tensors where a gradient is differentiated again",
            )
        plan = second_plan(self.done, self.form, frozenset(gradients), frozenset(again))
        arrays, states = self.split(tensors)
        of_arrays, of_states = self.split(gradients)
        arrays |= {PREFIX + PREFIX + n: t for n, t in of_arrays.items()}
        states |= {AGAIN + PREFIX + n: t for n, t in of_states.items()}
        found = self.run((*sorted(gradients), AGAIN, *sorted(again)), plan, arrays, states)
        names = {n: (PREFIX if n in arrays else AGAIN) + n for n in again}
        return {n: found[name] for n, name in names.items() if name in found}

    def split(self, tensors: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Arrays, and what scans start from: initial states and cotangents of final ones."""
        starts = {n: t for n, t in tensors.items() if n in self.states or n in self.seeds}
        return {n: t for n, t in tensors.items() if n not in starts}, starts

    def run(self, which: Hashable, plan: KernelPlan, arrays: Tensors, states: Tensors) -> dict[str, Tensor]:
        """Everything that a plan gives, by name."""
        if which not in self.ready:
            self.ready[which] = self.backend.prepare(plan, arrays, self.chunk)
        results, final = self.ready[which](arrays, states)
        return {name: self.tensor(a) for name, a in {**results, **final}.items()}

    def tensor(self, array: Any) -> Tensor:
        """A result as a tensor of its own type, numpy's without a copy."""
        return array if isinstance(array, torch.Tensor) else convert(array, TORCH, dtype_of(array), self.device)


class _Mixing(torch.autograd.Function):  # type: ignore[misc]
    """A call. Its arguments are a `Call` and the tensors in its order, its results y and the final states."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
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
        d_y, *rest = cotangents
        if d_y is None:
            # one number seen as a whole tensor
            shape, dtype = ctx.output
            d_y = torch.zeros((), dtype=dtype, device=call.device).expand(shape)
        tensors = dict(zip(call.read, saved, strict=False))
        tensors[PREFIX + OUTPUT] = d_y
        tensors |= {name: c for name, c in zip(call.seeds, rest, strict=True) if c is not None}
        kept = dict(zip(call.plan.kept.values(), saved[len(call.read) :], strict=True))
        likes = {n: like for n, need, like in zip(call.names, needs, ctx.shapes, strict=True) if need}
        if torch.is_grad_enabled():
            found = iter(_Gradients.apply(call, likes, kept, tuple(tensors), *tensors.values()))
        else:
            found = iter(call.gradients(tensors, kept, likes))
        return (None, *(next(found) if need else None for need in needs))


class _Gradients(torch.autograd.Function):  # type: ignore[misc]
    """A backward pass that is recorded itself: the gradients named in `likes`, in the shapes and types that it has, as
    functions of the tensors in the order of `names`. `kept` was made of these in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, likes: Likes, kept: Tensors, names: tuple[str, ...], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.call, ctx.wanted, ctx.names = call, tuple(likes), names
        ctx.save_for_backward(*tensors)
        return call.gradients(dict(zip(names, tensors, strict=True)), kept, likes)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        given = {n: c for n, c in zip(ctx.wanted, cotangents, strict=True) if c is not None}
        tensors = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        needs = ctx.needs_input_grad[-len(tensors) :]
        again = {n: (t.shape, t.dtype) for (n, t), need in zip(tensors.items(), needs, strict=True) if need}
        if not given:
            return (None,) * (4 + len(needs))
        with torch.no_grad():
            found = ctx.call.second(tensors, given, again)
            gradients = [_gradient(found.get(n), again[n], ctx.call.device) if n in again else None for n in tensors]
        return (*(None,) * 4, *_at_most_twice(gradients, [*tensors.values(), *given.values()]))


def _gradient(found: Tensor | None, like: tuple[Any, Any], device: str) -> Tensor:
    """A gradient in its argument's shape and type; what nothing depends on has the gradient zero."""
    shape, dtype = like
    return torch.zeros(shape, dtype=dtype, device=device) if found is None else found.to(dtype)


def _at_most_twice(gradients: list[Tensor | None], depends: list[Tensor]) -> list[Tensor | None]:
    """The gradients as functions of `depends` whose own derivative is an error: never silently zero."""
    there = [g for g in gradients if g is not None]
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in depends):
        return gradients
    marked = iter(_Last.apply(len(there), *there, *depends))
    return [None if g is None else next(marked) for g in gradients]


class _Last(torch.autograd.Function):  # type: ignore[misc]
    """Second derivatives, which can't be differentiated again."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        raise GradientError(
            "the second derivatives of a mixer can't be differentiated again: there are no third ones",
            hint="detach() them, or leave create_graph=True out where they are computed",
        )
