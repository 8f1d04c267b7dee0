"""How the calls of one mixer run: from arguments as a caller gives them to the kernels that suit, and back.

What one call consists of is in `smir/calls/`, what it goes on from and leaves behind in `smir/states/`, and what torch
adds in `smir/torch_side/`; here is the order in which they are asked.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from smir.calls.array_kinds import device_of, has_modes, is_traced, kind_of
from smir.calls.autocast import cast, is_autocast
from smir.calls.binding import Bound, bound_to, check_promises, fit_call, match_arguments
from smir.calls.execution import Backend, Runner, backend_for, find_backend, forward_runner
from smir.calls.form_choice import Asked, FormChoice
from smir.calls.packing import check_values, has_readable_values
from smir.calls.prepared import PreparedCall, PreparedCalls, call_key
from smir.compilation import Compilation, require_form
from smir.ir.convolution import CONVOLUTION
from smir.ir.mixer import Mixer
from smir.ir.sizes import CU_SEQLENS
from smir.ir.tile_program import OUTPUT, SCAN, STEP
from smir.states.call_states import CallStates
from smir.states.scaled_states import ScaledStates

if TYPE_CHECKING:
    from smir.passes.pairs.pair_cache import PairCache
    from smir.states.pair_segments import PairSegments, PairSteps
    from smir.states.stepping import Steps
    from smir.tuning.settings import Setting

DEFAULT_BACKEND = "numpy"
# The backend whose kernels know packed sequences.
PACKED_BACKEND = "triton"
Arrays = dict[str, Any]
_NUMBERS = count()
_LIVE: "WeakValueDictionary[str, Calls]" = WeakValueDictionary()


def calls_by_handle(handle: str) -> "Calls":
    """Those of the mixer of this process that has this handle."""
    return _LIVE[handle]


class Calls:
    """The calls of one mixer: `smir.CompiledMixer` says what a call and a step take and give."""

    def __init__(self, done: Compilation, asked: Asked) -> None:
        self.done, self.asked = done, asked
        # what traced code knows a mixer by: text is constant there, and objects aren't
        self.handle = f"{done.spec.name} {next(_NUMBERS)}"
        _LIVE[self.handle] = self
        self.prepared = PreparedCalls()
        self.choice = FormChoice(done, asked.form)

    def __call__(
        self,
        args: tuple[Any, ...],
        named: Arrays,
        state: Mapping[str, Any] | None,
        return_state: bool,
        cu_seqlens: Any = None,
        check_ranges: bool = False,
    ) -> Any:
        """y, and with `return_state` the final states."""
        if is_traced():
            from smir.torch_side.operators import traced_call

            return traced_call(self, args, named, state, return_state, cu_seqlens, check_ranges)
        given, states = match_arguments(self.spec, args, named), self.call_states.match(state)
        if is_autocast():
            given = cast(self.spec, given)
        return self.eager(given, states, cu_seqlens, return_state, check_ranges)

    def step(
        self, args: tuple[Any, ...], named: Arrays, state: Mapping[str, Any] | None, inplace: bool, several: bool
    ) -> tuple[Any, Mapping[str, Any]]:
        """y of the next token, or of `several`, and the state after it."""
        if is_traced():
            from smir.torch_side.steps import traced_step

            return traced_step(self, args, named, state, inplace, several)
        given = match_arguments(self.spec, args, named)
        return self.steps(given, self.call_states.match(state), inplace, several)

    def eager(self, given: Arrays, states: Arrays, cu_seqlens: Any, return_state: bool, check_ranges: bool) -> Any:
        """A call whose arguments have been matched with their names: what an operator of torch runs."""
        crosses = self.call_states.crosses(states, return_state)
        if crosses and self.pair_segments is not None:
            if check_ranges:
                check_promises(self.spec, given)
            return self.pair_segments.call(given, states, cu_seqlens, return_state)
        if cu_seqlens is not None and self._backend_of(given) != PACKED_BACKEND:
            return self._by_length(given, states, cu_seqlens, return_state, check_ranges)
        return self._run(given, states, cu_seqlens, return_state, check_ranges)

    def backend(self, name: str | None = None) -> Backend:
        """The backend of this name; else the one asked for; else the default."""
        return find_backend(name or self.asked.backend or DEFAULT_BACKEND)

    @property
    def spec(self) -> Mixer:
        """The typed spec."""
        return self.done.spec

    @cached_property
    def scaled_states(self) -> ScaledStates:
        """How a call's states become those that programs carry, and back."""
        return self.done.scaled_states

    @cached_property
    def call_states(self) -> CallStates:
        """What the `state` of a call holds."""
        done = self.done
        return CallStates(done.spec, done.equations, self.scaled_states, done.lookahead, self._tokens_kept)

    def _tokens_kept(self) -> "PairCache | None":
        return None if self.done.pair_segment is None else self.done.pair_segment.cache

    # ---- one call ---------------------------------------------------------------------------------------------------

    def _run(self, given: Arrays, states: Arrays, cu_seqlens: Any, return_state: bool, check_ranges: bool) -> Any:
        if self.call_states.crosses(states, return_state):
            return self._segment(given, states, cu_seqlens, return_state, check_ranges)
        return self._one_call(given, states, cu_seqlens, return_state, check_ranges)

    def _one_call(self, given: Arrays, states: Arrays, cu_seqlens: Any, return_state: bool, check_ranges: bool) -> Any:
        """A call of this mixer's own programs."""
        key = call_key(self.asked.backend, given, states, cu_seqlens)
        call = self.prepared.find(key)
        if call is None:
            call = self._prepare(given, states, cu_seqlens)
            self.prepared.keep(key, call)
        if check_ranges:
            check_promises(self.spec, given)
        if cu_seqlens is not None and (check_ranges or has_readable_values(cu_seqlens)):
            check_values(cu_seqlens, call.fit.tokens)
        arrays, states = call.fit.canonical(self.spec, given, states)
        if cu_seqlens is not None:
            arrays[CU_SEQLENS] = cu_seqlens
        results, final = call.run(arrays, self.scaled_states.carried(states, call.fit.sizes))
        if not return_state:
            return call.fit.output(results[OUTPUT])
        y, final = call.fit.restore(results[OUTPUT], self.scaled_states.given_back(final))
        return y, self.call_states.handed_back(final)

    def _prepare(self, given: Arrays, states: Arrays, cu_seqlens: Any = None) -> PreparedCall:
        """Chooses backend, form and chunk for a call, and makes its kernels ready. Raises SmirError for a wrong one."""
        fit = fit_call(self.scaled_states.interface, given, states, cu_seqlens)
        bound = bound_to(fit, self.spec, given, states)
        bound = replace(bound, states=self.scaled_states.carried(bound.states, bound.sizes))
        if cu_seqlens is not None:
            bound = replace(bound, arrays={**bound.arrays, CU_SEQLENS: cu_seqlens})
        if has_modes():
            from smir.torch_side.passes import settled

            bound = settled(bound)
        backend = self.backend(self.asked.backend or backend_for(bound))
        form, setting = self._tuned(backend, bound, self.choice.of_call(bound, backend.machine))
        return PreparedCall(fit, self._runner(backend, form, bound, setting))

    def _tuned(self, backend: Backend, bound: Bound, form: str) -> "tuple[str, Setting | None]":
        """The form and setting that were measured to be the fastest for calls like this one, else the form as it is."""
        if not self.done.plans:
            return form, None
        from smir.tuning.lookup import find
        from smir.tuning.problem import Problem

        found = find(self.done, Problem.of(self.done, backend.name, bound))
        return found.best(self.asked.form, self.asked.chunk, form) or (form, None)

    def _runner(self, backend: Backend, form: str, bound: Bound, setting: "Setting | None" = None) -> Runner:
        if form == CONVOLUTION:
            return self._convolver(backend, bound)
        chunk = self.asked.chunk if self.asked.chunk and form != STEP else backend.chunk_for(form, bound)
        if setting is not None:
            backend, chunk = backend.with_setting(setting), setting.chunk
        if has_modes():
            from smir.torch_side.passes import traced_runner

            return traced_runner(self, backend.name, form, bound, chunk, setting)
        if bound.recorded:
            from smir.torch_side.autograd import recorded_runner

            return recorded_runner(self.done, backend, form, bound, chunk)
        return forward_runner(self.done, backend, form, bound, chunk)

    def _convolver(self, backend: Backend, bound: Bound) -> Runner:
        """The convolution form: every part is a compiled mixer of its own."""
        from smir.calls.convolution import Convolver
        from smir.calls.form_costs import part_form

        done, program = self.done, self.done.convolution
        assert program is not None, "the form has been found to be legal"
        asked = {part: Asked(part_form(done, part), backend.name, self.asked.chunk) for part in done.parts}
        parts = {part: Calls(done.parts[part], own) for part, own in asked.items()}
        # what knows the final states goes along the whole sequence
        whole = SCAN if SCAN in done.plans else STEP

        def call(part: Mixer, arrays: Mapping[str, Any], states: Mapping[str, Any]) -> Any:
            return parts[part].eager(dict(arrays), dict(states), None, False, False)

        def sweep(arrays: Mapping[str, Any], states: Mapping[str, Any]) -> Mapping[str, Any]:
            return self._runner(backend, whole, bound)(arrays, states)[1]

        return Convolver(program, call, sweep)

    # ---- packed sequences -------------------------------------------------------------------------------------------

    def _backend_of(self, given: Mapping[str, Any]) -> str:
        """The backend of a call with these arguments, which nobody has looked at yet."""
        devices = {device_of(a) for a in given.values() if kind_of(a)}
        return self.asked.backend or (PACKED_BACKEND if any(d.startswith("cuda") for d in devices) else DEFAULT_BACKEND)

    def _by_length(self, given: Arrays, states: Arrays, cu_seqlens: Any, return_state: bool, check_ranges: bool) -> Any:
        """Packed sequences where nothing is made for them: those of one length together."""
        from smir.calls.by_length import run_by_length

        own, _ = self.call_states.split(states)
        fit = fit_call(self.scaled_states.interface, given, own, cu_seqlens)
        check_values(cu_seqlens, fit.tokens)
        if check_ranges:
            check_promises(self.spec, given)

        def call(part: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
            found = self._run(dict(part), dict(own), None, return_state, False)
            return found if return_state else (found, {})

        y, final = run_by_length(call, self.scaled_states, fit, given, states, cu_seqlens)
        return (y, final) if return_state else y

    # ---- from one segment to the next -------------------------------------------------------------------------------

    def _segment(self, given: Arrays, states: Arrays, cu_seqlens: Any, return_state: bool, check_ranges: bool) -> Any:
        """A call that needs, or leaves behind, more than the states after a token: see `smir.states.segments`."""
        from smir.states.segments import gathered, last_tokens, run_segment

        own, pasts = self.call_states.split(states)
        fit = fit_call(self.scaled_states.interface, given, own, cu_seqlens)
        if check_ranges:
            check_promises(self.spec, given)
        if cu_seqlens is not None and (check_ranges or has_readable_values(cu_seqlens)):
            check_values(cu_seqlens, fit.tokens)
        if pasts or any(not past.is_input for past in self.call_states.pasts):
            y, final = run_segment(self._variant, self.call_states, given, states, cu_seqlens)
        else:
            y, final = self._one_call(given, own, cu_seqlens, True, False)
            final = gathered(self.call_states, final, last_tokens(self.call_states, given, cu_seqlens))
        return (y, final) if return_state else y

    @cached_property
    def _variant(self) -> "Calls":
        """Those of this mixer with its delayed inputs as inputs of their own."""
        from smir.states.segments import segment_variant

        done = segment_variant(self.done)
        if self.asked.form is not None:
            require_form(done, self.asked.form)
        return Calls(done, self.asked)

    @cached_property
    def pair_segments(self) -> "PairSegments | None":
        """How a mixer of pairs of positions goes on from earlier tokens."""
        from smir.states.pair_segments import PairSegments

        done, segment = self.done, self.done.pair_segment
        if segment is None:
            return None

        def whole(given: Arrays) -> Any:
            return self._one_call(given, {}, None, False, False)

        return PairSegments(done, segment, self.asked.backend, self.asked.chunk, whole)

    @cached_property
    def steps(self) -> "Steps | PairSteps":
        """How it takes one token after the other. Raises FormError for a mixer that can't."""
        from smir.states.stepping import Steps

        if self.pair_segments is not None:
            from smir.states.pair_segments import PairSteps

            return PairSteps(self.pair_segments)
        return Steps(self)
