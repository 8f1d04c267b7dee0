"""Decoding: one token after the other, or a few at once, from a state to the next.

`step` runs the step form, whatever form whole sequences take. Older inputs are states there (`lines_as_states`): the
newest replaces the oldest in the same kernel. Where states are to be overwritten, kernels write them where they read
them, if every block belongs to one program; else they write apart, and the result is copied.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from smir.calls.array_kinds import (
    Array,
    convert,
    device_of,
    dtype_of,
    empty,
    is_traced,
    kind_of,
    module_of,
    promote,
    same_memory,
    wants_gradient,
    write,
)
from smir.calls.binding import Fit, bound_to, fit_call
from smir.calls.execution import StepRunner, backend_for, find_backend, step_runner
from smir.calls.form_choice import Asked
from smir.calls.prepared import Key, call_key
from smir.compilation import DIRECT, Compilation, require_form
from smir.compiler import compile_mixer
from smir.errors import ArgumentError, GradientError
from smir.ir.mixer import Mixer
from smir.ir.tile_program import STEP
from smir.passes.segments.delays import lines_as_states
from smir.passes.stabilisation.stabilise import SUFFIX
from smir.states.segments import older_states

if TYPE_CHECKING:
    from smir.running import Calls

Arrays = dict[str, Array]
# Kinds of steps that a mixer remembers.
LIMIT = 64


@dataclass(frozen=True)
class PreparedStep:
    """What steps of one kind settle. No `run`: they are a whole call in the step form."""

    fit: Fit
    run: StepRunner | None
    recorded: bool = False


class Steps:
    """The steps of one mixer. Raises FormError for a mixer that looks ahead or has no step form."""

    def __init__(self, calls: "Calls") -> None:
        self.calls, self.entries = calls, calls.call_states
        self.entries.require_causal("step")
        if calls.done.equations is None or calls.done.forms != (DIRECT,):
            require_form(calls.done, STEP)
        self.prepared: dict[Key, PreparedStep] = {}

    def __call__(self, given: Arrays, state: Arrays, inplace: bool, several: bool) -> tuple[Array, Arrays]:
        """y and the state after these tokens, in the arrays' own layout. Raises SmirError before anything runs."""
        if inplace:
            self.check_whole(state)
        tokens = given if several else with_time(self.calls.spec, given)
        call = None if is_traced() else self._find(given, tokens, state, several)
        if call is not None and call.recorded and inplace:
            raise GradientError("inplace=True would overwrite a state that gradients need",
                                hint="decode under torch.no_grad(), or with inplace=False")  # fmt: skip
        if call is None or call.run is None:
            y, after = self._as_call(tokens, state, inplace)
        else:
            y, after = self._run(call, call.run, tokens, state, inplace)
        return y if several else y[:, 0], after

    # ---- what a kind of step settles ----------------------------------------------------------------------------

    @cached_property
    def done(self) -> Compilation:
        """The mixer whose delay lines are states."""
        done = self.calls.done
        if not self.entries.pasts:
            return done
        assert done.equations is not None, "only step equations read older values"
        return compile_mixer(lines_as_states(done.equations))

    @cached_property
    def whole(self) -> "Calls":
        """Those in the step form."""
        from smir.running import Calls

        form = STEP if STEP in self.calls.done.plans else None
        return Calls(self.calls.done, Asked(form, self.calls.asked.backend))

    def _find(self, given: Arrays, tokens: Arrays, state: Arrays, several: bool) -> PreparedStep:
        key = call_key(self.calls.asked.backend, tokens, state)
        call = None if key is None else self.prepared.get(key)
        if call is None:
            call = self._prepare(given, tokens, state, several)
            if len(self.prepared) >= LIMIT:
                self.prepared.clear()
            if key is not None:
                self.prepared[key] = call
        return call

    def _prepare(self, given: Arrays, tokens: Arrays, state: Arrays, several: bool) -> PreparedStep:
        calls, spec = self.calls, self.calls.spec
        if not several:
            check_single(spec, given)
        own, pasts = self.entries.split(state)
        fit = fit_call(calls.scaled_states.interface, tokens, own)
        self.entries.check_pasts(tokens, own, pasts)
        bound = bound_to(fit, spec, tokens, own)
        backend = find_backend(calls.asked.backend or backend_for(bound))
        recorded = bool(bound.recorded) or any(map(wants_gradient, pasts.values()))
        heads = {int(bound.arrays[p.of].shape[2]) for p in self.entries.pasts if p.is_input}
        if recorded or heads - {fit.heads}:
            return PreparedStep(fit, None, recorded)
        return PreparedStep(fit, step_runner(self.done, backend, bound))

    # ---- running ------------------------------------------------------------------------------------------------

    def _run(
        self, call: PreparedStep, run: StepRunner, tokens: Arrays, state: Arrays, inplace: bool
    ) -> tuple[Array, Arrays]:
        fit, scaled = call.fit, self.done.scaled_states
        own, pasts = self.entries.split(state)
        after = state if inplace else self._fresh(fit, tokens, state)
        before = {**older_states(self.entries, own, pasts), **self._views(state)}
        arrays, states = fit.canonical(self.calls.spec, tokens, before)
        _, wanted = fit.canonical(self.calls.spec, {}, self._views(after))
        targets = self._targets(wanted) if scaled.members else wanted
        y, final = run(arrays, scaled.carried(states, fit.sizes), targets)
        if not inplace:
            after = self._after(fit, state, after, scaled.given_back(final))
        elif scaled.members:
            self._copy_logs(wanted)
        return fit.output(y), after

    def _views(self, state: Arrays) -> Arrays:
        """States by the names that they have inside, those of delay lines as views of the pasts."""
        found, pasts = self.entries.split(state)
        for past in (p for p in self.entries.pasts if p.name in pasts):
            found |= {past.line(age): pasts[past.name][:, past.index(age)] for age in past.ages}
        return found

    def _fresh(self, fit: Fit, tokens: Arrays, state: Arrays) -> Arrays:
        """Memory for what isn't made as it is wanted: states of 16 bits, and the pasts of inputs after a step, with
        their tokens outermost: each is one block."""
        own, pasts = self.entries.split(state)
        short = {n: a for n, a in own.items() if a.dtype.itemsize < 4 and not n.endswith(SUFFIX)}
        found = {n: empty(tuple(a.shape), fit.kind, dtype_of(a), fit.device) for n, a in short.items()}
        for past in (p for p in self.entries.pasts if p.is_input):
            like = tokens[past.of]
            dtype = dtype_of(pasts.get(past.name, like))
            shape = (len(past.ages), like.shape[0], *like.shape[2:])
            found[past.name] = module_of(like).swapaxes(empty(shape, fit.kind, dtype, fit.device), 0, 1)
        return found

    def _targets(self, wanted: Arrays) -> Arrays:
        """Where final states go, by the names of those that programs carry: one log for all states that share it."""
        members = self.done.scaled_states.members
        firsts = {log: group[0].name + SUFFIX for log, group in members.items()}
        shared = {s.name + SUFFIX for group in members.values() for s in group}
        own = {n: a for n, a in wanted.items() if n not in shared}
        return {**own, **{log: wanted[first] for log, first in firsts.items() if first in wanted}}

    def _copy_logs(self, wanted: Arrays) -> None:
        """Logs that several states share, where each has a copy of its own."""
        for group in self.done.scaled_states.members.values():
            first = wanted[group[0].name + SUFFIX]
            for other in (wanted[s.name + SUFFIX] for s in group[1:]):
                if not same_memory(first, other):
                    write(other, first)

    def _after(self, fit: Fit, given: Arrays, fresh: Arrays, final: Arrays) -> Arrays:
        """The state after a step, in the caller's layout; what was given keeps its type."""
        plain = {name: a if fit.has_heads else a[:, 0] for name, a in final.items()}
        found = {}
        for name in (s.name for s in self.calls.scaled_states.interface.states):
            found[name] = convert(fresh.get(name, plain[name]), fit.kind, _kept_type(name, given, fit), fit.device)
        for past in self.entries.pasts:
            if past.is_input:
                found[past.name] = fresh[past.name]
                continue
            dtype = _kept_type(past.name, given, fit)
            values = [convert(plain[past.line(age)], fit.kind, dtype, fit.device) for age in reversed(past.ages)]
            found[past.name] = module_of(values[0]).stack(values, 1)
        return found

    def _as_call(self, tokens: Arrays, state: Arrays, inplace: bool) -> tuple[Array, Arrays]:
        """A step as a call of a few tokens in the step form: what traces and gradients know."""
        y, found = self.whole((), tokens, state or None, True)
        if inplace:
            for name, target in state.items():
                write(target, found[name])
            return y, state
        return y, {name: _as_given(a, state.get(name), name) for name, a in found.items()}

    def check_whole(self, state: Collection[str]) -> None:
        """Raises ArgumentError where there is nothing to write an entry of `state`, by name, into."""
        missing = [name for name in self.entries.names if name not in state]
        if missing:
            raise ArgumentError(
                f"inplace=True overwrites the state of {self.calls.spec.name}, and {missing[0]} isn't given",
                hint="begin with the state that a call with return_state=True, or a step with inplace=False, returns",
            )


def with_time(spec: Mixer, given: Arrays) -> Arrays:
    """The arguments of a step with a time axis of one token."""
    inputs = {d.name for d in spec.inputs}
    return {n: a[:, None] if n in inputs and kind_of(a) and a.ndim else a for n, a in given.items()}


def check_single(spec: Mixer, given: Arrays) -> None:
    """Whether a step's inputs have the axes of one token. Raises ArgumentError."""
    for d in spec.inputs:
        rank = len(getattr(given[d.name], "shape", ()))
        if kind_of(given[d.name]) and rank - len(d.dims) not in (1, 2):
            axes = ", ".join(["B", "H", *map(str, d.dims)])
            raise ArgumentError(
                f"argument {d.name} of a step has shape {tuple(given[d.name].shape)}, expected [{axes}]",
                hint="a step takes one token, without a time axis; several=True takes [B, n, H, ...]",
            )


def _kept_type(name: str, given: Arrays, fit: Fit) -> str:
    """A state keeps the type in which it was given; a log of a scale has 32 bits at least."""
    if name not in given:
        return fit.state_dtype
    dtype = dtype_of(given[name])
    return promote((dtype, "float32")) if name.endswith(SUFFIX) else dtype


def _as_given(found: Array, given: Array | None, name: str) -> Array:
    if given is None or name.endswith(SUFFIX):
        return found
    return convert(found, str(kind_of(found)), dtype_of(given), device_of(found))
