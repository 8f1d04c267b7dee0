"""What `smir.compile` returns: a mixer that can be called, explained, verified and printed."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from smir.array_kinds import device_of, has_modes, is_traced, kind_of
from smir.autocast import cast, is_autocast
from smir.binding import Bound, bound_to, check_promises, fit_call, match_arguments
from smir.call_states import CallStates
from smir.compiler import DIRECT, Compilation, Options, compile_spec, require_form, training_plan
from smir.errors import ArgumentError, FormError
from smir.execution import Backend, Runner, backend_for, find_backend, forward_runner, require_plan
from smir.ir.convolution import CONVOLUTION
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.sizes import CU_SEQLENS, TIME_NAME
from smir.ir.tile_program import OUTPUT, SCAN, STEP
from smir.packing import check_values, has_readable_values
from smir.prepared import PreparedCall, PreparedCalls, call_key
from smir.sampling import check_counts, check_sizes, dimension_names
from smir.scaled_states import ScaledStates
from smir.source import Source
from smir.specs import find_spec
from smir.token_cache import DEFAULT_CAPACITY, TokenCache

if TYPE_CHECKING:
    from smir.explain import Explanation
    from smir.pair_segments import PairSegments, PairSteps
    from smir.passes.analysis.cost import Cost
    from smir.passes.analysis.select_form import Machine
    from smir.passes.gradients.saved_values import TrainingPlan
    from smir.passes.pairs.pair_cache import PairCache
    from smir.stepping import Steps
    from smir.tuning.problem import Problem
    from smir.tuning.settings import Setting
    from smir.tuning.tune import TuningReport
    from smir.verify import Report

DEFAULT_BACKEND, VERIFIED_CHUNK = "numpy", 16
# The backend whose kernels know packed sequences.
PACKED_BACKEND = "triton"
# Rows for which a call's form is chosen, whatever its batch: a row's result must not depend on what else is in it.
NOMINAL_BATCH = 4
# Sizes for predictions that are made before any array is seen.
REFERENCE_TOKENS, REFERENCE_SIZE = 4096, 64
_NUMBERS = count()
_LIVE: "WeakValueDictionary[str, CompiledMixer]" = WeakValueDictionary()
LEVELS = ("mixer", "recurrence", "operators", "pairs", "tile", "plan")


def compile(
    spec: str | Path, *, form: str | None = None, backend: str | None = None, chunk: int | None = None
) -> "CompiledMixer":
    """Compiles a spec: a library name, a path, or the text itself (it has a newline or begins with `mixer`).

    `form` is one of those that `forms` of the result names: `step`, `scan`, `chunked`, `quadratic` or `convolution`
    (`docs/architecture.md` says what they are). Without it every call takes the cheapest legal one at its sizes.
    `backend` is `numpy` or `triton`; without it the arrays decide: CUDA tensors run on Triton, all others on numpy.
    `chunk` is the number of tokens per chunk. Raises SmirError for everything that is wrong with them.
    """
    return compile_source(find_spec(spec), form=form, backend=backend, chunk=chunk)


def compile_source(
    source: Source,
    *,
    form: str | None = None,
    backend: str | None = None,
    chunk: int | None = None,
    options: Options | None = None,
) -> "CompiledMixer":
    """The same for a text whose origin is known."""
    if backend is not None:
        find_backend(backend)
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ArgumentError(f"chunk is a positive number of tokens, not {chunk!r}", hint="64 suits most mixers")
    done = compile_spec(source, options or Options())
    if form is not None:
        require_form(done, form)
    return CompiledMixer(done, form, backend, chunk)


@lru_cache(maxsize=256)
def _compiled_again(source: Source, form: str | None, backend: str | None, chunk: int | None) -> "CompiledMixer":
    """What was pickled, one for all that were alike."""
    return compile_source(source, form=form, backend=backend, chunk=chunk)


def mixer_by_handle(handle: str) -> "CompiledMixer":
    """The mixer of this process that has this handle."""
    return _LIVE[handle]


class CompiledMixer:
    """A compiled mixer. Call it with arrays `[B, T, H, dims...]` (parameters `[H, dims...]`), by position or name."""

    def __init__(self, compilation: Compilation, form: str | None, backend: str | None, chunk: int | None) -> None:
        self.compilation = compilation
        self.backend = backend
        self._form, self._chunk = form, chunk
        # what traced code knows a mixer by: text is constant there, and objects aren't
        self.handle = f"{compilation.spec.name} {next(_NUMBERS)}"
        _LIVE[self.handle] = self
        self._prepared = PreparedCalls()
        self._choices: dict[tuple[Any, ...], str] = {}
        self._trained: dict[frozenset[str], dict[str, Cost]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Its text, and what was asked for: whoever reads it compiles it again."""
        return _compiled_again, (self.compilation.source, *self.asked.values())

    def __deepcopy__(self, memo: Any) -> "CompiledMixer":
        """Itself: nothing about it changes."""
        return self

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for beside the spec."""
        return {"form": self._form, "backend": self.backend, "chunk": self._chunk}

    def __repr__(self) -> str:
        return f"<mixer {self.spec.name}, forms {', '.join(self.forms)}>"

    def __call__(
        self,
        *args: Any,
        state: Mapping[str, Any] | None = None,
        return_state: bool = False,
        cu_seqlens: Any = None,
        check_ranges: bool = False,
        **named: Any,
    ) -> Any:
        """y `[B, T, H, dims...]` in the arrays' own type and on their device, and with `return_state` the final states.

        `state` maps the spec's state names to arrays `[B, H, dims...]`, with which the mixer goes on. A stabilised
        state S comes back as the mantissa of S e^S_log, beside `S_log`, and may be given so. `check_ranges` checks the
        values against the ranges that the spec promises. Raises SmirError before anything runs.

        `cu_seqlens` `[N + 1]`, integers on the arrays' device, says that the row of T tokens (B is 1) holds N sequences
        one behind the other, the n-th from `cu_seqlens[n]` to `cu_seqlens[n + 1]`; states are then `[N, H, dims...]`.
        Its values are checked where they are on the CPU; on a GPU, where that would make both wait, by `check_ranges`.
        """
        if is_traced():
            from smir.torch_ops import traced_call

            return traced_call(self, args, named, state, return_state, cu_seqlens, check_ranges)
        given, states = match_arguments(self.spec, args, named), self.call_states.match(state)
        if is_autocast():
            given = cast(self.spec, given)
        return self.eager(given, states, cu_seqlens, return_state, check_ranges)

    def step(
        self,
        *args: Any,
        state: Mapping[str, Any] | None = None,
        inplace: bool = False,
        several: bool = False,
        **named: Any,
    ) -> tuple[Any, Mapping[str, Any]]:
        """y `[B, H, dims...]` of the next token and the state after it: decoding, in one pass over the states.

        Inputs are those of one token, `[B, H, dims...]`, parameters as ever. `several`: of a few tokens, with the time
        axis, `[B, n, H, dims...]`. `state` is what the last call or step returned (None: the sequence begins); a state
        given in 16 bits comes back so, others in 32 bits at least. With `inplace` its arrays are overwritten and
        returned; every entry must be given then. Raises SmirError before anything runs or is written: FormError for a
        mixer that looks ahead.

        A softmax keeps the tokens that later ones read (keys and values): its state grows, or holds a window. With
        `inplace` that is one of `new_state`, to which tokens are appended; of any other state it begins a new one.
        """
        given = match_arguments(self.spec, args, named)
        return self._steps(given, self.call_states.match(state), inplace, several)

    @cached_property
    def _steps(self) -> "Steps | PairSteps":
        from smir.stepping import Steps

        if self._pair_segments is not None:
            from smir.pair_segments import PairSteps

            return PairSteps(self._pair_segments)
        return Steps(self)

    def new_state(self, capacity: int = DEFAULT_CAPACITY) -> TokenCache:
        """The state before the first token of a mixer that keeps tokens, with room for `capacity` of them at first.

        `step(.., inplace=True)` appends to it without copying what it holds. Raises FormError for a mixer that looks
        ahead or whose state doesn't grow.
        """
        self.call_states.require_causal("state to go on from")
        if self._pair_segments is None:
            raise FormError(f"the state of {self.spec.name} doesn't grow: no memory is set aside for it",
                            hint="the first step, or a call with return_state=True, returns one")  # fmt: skip
        return TokenCache(capacity)

    def eager(
        self, given: dict[str, Any], states: dict[str, Any], cu_seqlens: Any, return_state: bool, check_ranges: bool
    ) -> Any:
        """A call whose arguments have been matched with their names: what an operator of torch runs."""
        crosses = self.call_states.crosses(states, return_state)
        if crosses and self._pair_segments is not None:
            if check_ranges:
                check_promises(self.spec, given)
            return self._pair_segments.call(given, states, cu_seqlens, return_state)
        if cu_seqlens is not None and self._backend_of(given) != PACKED_BACKEND:
            return self._by_length(given, states, cu_seqlens, return_state, check_ranges)
        return self._run(given, states, cu_seqlens, return_state, check_ranges)

    def _by_length(
        self, given: dict[str, Any], states: dict[str, Any], cu_seqlens: Any, return_state: bool, check_ranges: bool
    ) -> Any:
        """Packed sequences where nothing is made for them: those of one length together."""
        from smir.by_length import run_by_length

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

    def _run(
        self, given: dict[str, Any], states: dict[str, Any], cu_seqlens: Any, return_state: bool, check_ranges: bool
    ) -> Any:
        if self.call_states.crosses(states, return_state):
            return self._segment(given, states, cu_seqlens, return_state, check_ranges)
        return self._one_call(given, states, cu_seqlens, return_state, check_ranges)

    def _one_call(
        self, given: dict[str, Any], states: dict[str, Any], cu_seqlens: Any, return_state: bool, check_ranges: bool
    ) -> Any:
        """A call of this mixer's own programs."""
        key = call_key(self.backend, given, states, cu_seqlens)
        call = self._prepared.find(key)
        if call is None:
            call = self._prepare(given, states, cu_seqlens)
            self._prepared.keep(key, call)
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

    def _segment(
        self, given: dict[str, Any], states: dict[str, Any], cu_seqlens: Any, return_state: bool, check_ranges: bool
    ) -> Any:
        """A call that needs, or leaves behind, more than the states after a token: see `smir.segments`."""
        from smir.segments import gathered, last_tokens, run_segment

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

    def _backend_of(self, given: Mapping[str, Any]) -> str:
        """The backend of a call with these arguments, which nobody has looked at yet."""
        devices = {device_of(a) for a in given.values() if kind_of(a)}
        return self.backend or (PACKED_BACKEND if any(d.startswith("cuda") for d in devices) else DEFAULT_BACKEND)

    def _prepare(self, given: dict[str, Any], states: dict[str, Any], cu_seqlens: Any = None) -> PreparedCall:
        """Chooses backend, form and chunk for a call, and makes its kernels ready. Raises SmirError for a wrong one."""
        fit = fit_call(self.scaled_states.interface, given, states, cu_seqlens)
        bound = bound_to(fit, self.spec, given, states)
        bound = replace(bound, states=self.scaled_states.carried(bound.states, bound.sizes))
        if cu_seqlens is not None:
            bound = replace(bound, arrays={**bound.arrays, CU_SEQLENS: cu_seqlens})
        if has_modes():
            from smir.torch_passes import settled

            bound = settled(bound)
        backend = self._backend(self.backend or backend_for(bound))
        sizes = {name: size for name, size in bound.sizes.items() if name != TIME_NAME}
        costs = self._training_costs(bound.recorded) if bound.recorded else self._costs
        if cu_seqlens is not None:
            costs = self._packed_costs(bound.recorded, costs)
        form = self._form or self._cheapest(costs, backend.machine, bound.tokens, NOMINAL_BATCH * bound.heads, sizes)
        form, setting = self._tuned(backend, bound, form)
        return PreparedCall(fit, self._runner(backend, form, bound, setting))

    def _tuned(self, backend: Backend, bound: Bound, form: str) -> "tuple[str, Setting | None]":
        """The form and setting that were measured to be the fastest for calls like this one, else the form as it is."""
        if not self.compilation.plans:
            return form, None
        from smir.tuning.lookup import find
        from smir.tuning.problem import Problem

        found = find(self.compilation, Problem.of(self.compilation, backend.name, bound))
        return found.best(self._form, self._chunk, form) or (form, None)

    def _runner(self, backend: Backend, form: str, bound: Bound, setting: "Setting | None" = None) -> Runner:
        if form == CONVOLUTION:
            return self._convolver(backend, bound)
        chunk = self._chunk if self._chunk and form != STEP else backend.chunk_for(form, bound)
        if setting is not None:
            backend, chunk = backend.with_setting(setting), setting.chunk
        if has_modes():
            from smir.torch_passes import traced_runner

            return traced_runner(self, backend.name, form, bound, chunk, setting)
        if bound.recorded:
            from smir.autograd import recorded_runner

            return recorded_runner(self.compilation, backend, form, bound, chunk)
        return forward_runner(self.compilation, backend, form, bound, chunk)

    def _convolver(self, backend: Backend, bound: Bound) -> Runner:
        """The convolution form: every part is a compiled mixer of its own."""
        from smir.convolution import Convolver
        from smir.form_costs import part_form

        done, program = self.compilation, self.compilation.convolution
        assert program is not None, "the form has been found to be legal"
        forms = {part: part_form(done, part) for part in done.parts}
        parts = {p: CompiledMixer(done.parts[p], form, backend.name, self._chunk) for p, form in forms.items()}
        # what knows the final states goes along the whole sequence
        whole = SCAN if SCAN in done.plans else STEP

        def call(part: Mixer, arrays: Mapping[str, Any], states: Mapping[str, Any]) -> Any:
            return parts[part].eager(dict(arrays), dict(states), None, False, False)

        def sweep(arrays: Mapping[str, Any], states: Mapping[str, Any]) -> Mapping[str, Any]:
            return self._runner(backend, whole, bound)(arrays, states)[1]

        return Convolver(program, call, sweep)

    @cached_property
    def scaled_states(self) -> ScaledStates:
        """How a call's states become those that programs carry, and back."""
        return self.compilation.scaled_states

    @cached_property
    def call_states(self) -> CallStates:
        """What the `state` of a call holds."""
        done = self.compilation
        return CallStates(self.spec, done.equations, self.scaled_states, done.lookahead, self._tokens_kept)

    def _tokens_kept(self) -> "PairCache | None":
        return None if self.compilation.pair_segment is None else self.compilation.pair_segment.cache

    @cached_property
    def _pair_segments(self) -> "PairSegments | None":
        """How a mixer of pairs of positions goes on from earlier tokens."""
        from smir.pair_segments import PairSegments

        done, segment = self.compilation, self.compilation.pair_segment
        if segment is None:
            return None

        def whole(given: dict[str, Any]) -> Any:
            return self._one_call(given, {}, None, False, False)

        return PairSegments(done, segment, self.backend, self._chunk, whole)

    @cached_property
    def _variant(self) -> "CompiledMixer":
        """This mixer, its delayed inputs as inputs of their own."""
        from smir.segments import segment_variant

        done = segment_variant(self.compilation)
        if self._form is not None:
            require_form(done, self._form)
        return CompiledMixer(done, self._form, self.backend, self._chunk)

    # ---- facts --------------------------------------------------------------------------------------------------

    @property
    def spec(self) -> Mixer:
        """The typed spec."""
        return self.compilation.spec

    @property
    def forms(self) -> tuple[str, ...]:
        """The legal forms."""
        return self.compilation.forms

    @property
    def form(self) -> str:
        """The form asked for, or the cheapest one at a long sequence of reference sizes."""
        return self.form_for(T=REFERENCE_TOKENS)

    def form_for(self, T: int, sequences: int = 1, backend: str | None = None, **sizes: int) -> str:
        """The form that a call would take at these sizes; `sequences` is rows times heads. A call counts NOMINAL_BATCH
        rows, whatever its batch."""
        check_counts(T=T, sequences=sequences)
        check_sizes(self.spec, sizes)
        return self._form or self._cheapest(self._costs, self._backend(backend).machine, T, sequences, sizes)

    def _cheapest(
        self, costs: "Mapping[str, Cost]", machine: "Machine", T: int, sequences: int, sizes: Mapping[str, int]
    ) -> str:
        """The form with the smallest of these costs."""
        if not costs:
            return DIRECT
        from smir.passes.analysis.select_form import select_form

        known = {**self.reference_sizes, **sizes}
        key = (id(costs), machine.name, T, sequences, *sorted(known.items()))
        if key not in self._choices:
            self._choices[key] = select_form(costs, machine, T, known, sequences)
        return self._choices[key]

    def _program_form(self, backend: str | None = None) -> str:
        """The form asked for, or the cheapest one that has kernels of its own."""
        machine = self._backend(backend).machine
        return self._form or self._cheapest(self._program_costs, machine, REFERENCE_TOKENS, 1, {})

    def plan(self, form: str | None = None) -> KernelPlan | None:
        """The kernel plan of a form (default: the chosen one); None for a form that has no kernels of its own."""
        form = form or self.form
        require_form(self.compilation, form)
        return self.compilation.plans.get(form)

    def training_plan(
        self, wanted: Collection[str] | None = None, form: str | None = None, options: Options | None = None
    ) -> "TrainingPlan":
        """The forward and backward kernels of a training call, and what the one keeps for the other.

        `wanted` names the inputs, parameters and initial states whose gradients are asked for (default: all). Raises
        ArgumentError for other names, and FormError for a mixer that only runs as written.
        """
        names = [d.name for d in self.spec.declarations] + [s.name for s in self.spec.states]
        wanted = names if wanted is None else wanted
        unknown = next((name for name in wanted if name not in names), None)
        if unknown is not None:
            raise ArgumentError(f"{self.spec.name} has no argument {unknown!r}", hint=f"it has {', '.join(names)}")
        form = form or self._program_form()
        return training_plan(self.compilation, form, frozenset(wanted), options or Options())

    def ir(self, level: str = "plan", form: str | None = None) -> str:
        """The IR as text: `mixer`, `recurrence`, `operators`, `pairs`, `tile` or `plan` (the last two of a form)."""
        from smir.ir.printer import print_ir

        if level not in LEVELS:
            raise ArgumentError(f"there is no IR level {level!r}", hint=f"one of {', '.join(LEVELS)}")
        by_form: dict[str, Any] = {"tile": self.compilation.tiles, "plan": self.compilation.plans}
        if level in by_form:
            form = form or self._program_form()
            require_plan(self.compilation, form)
            return print_ir(by_form[level][form])
        found = getattr(self.compilation, level)
        if found is None:
            raise FormError(f"{self.spec.name} has no {level} IR", hint="`explain` says what was recognised")
        return print_ir(found)

    @property
    def reference_sizes(self) -> dict[str, int]:
        """A size for every dimension name, for predictions that are made before any array is seen."""
        return dict.fromkeys(dimension_names(self.spec), REFERENCE_SIZE)

    def explain(self, **sizes: int) -> "Explanation":
        """What was recognised, which forms are legal and why others aren't, what they cost and where they cross."""
        from smir.explain import explain

        check_sizes(self.spec, sizes)
        return explain(self.compilation, self.form, {**self.reference_sizes, **sizes})

    def verify(self, **options: Any) -> "Report":
        """Every legal form against the float64 oracle; see `smir.verify.verify` for the options."""
        from smir.verify import verify

        return verify(self.compilation, **{"chunk": self._chunk or VERIFIED_CHUNK, **options})

    def tune(self, *args: Any, budget: float = 20.0, progress: bool = False, **named: Any) -> "TuningReport":
        """Measures forms, chunk sizes and launch options for calls like this one, within `budget` seconds.

        Takes the arguments of a call, of which only sizes, types and the device count; tensors that require a gradient
        are tuned forward and backward. What is found is written to the user's cache directory and serves all lengths
        of the same class and all batches, in this process and in later ones. `progress` shows a bar. (An argument of the
        spec that is called `budget` or `progress` is given by position.) Raises SmirError.
        """
        from smir.tuning.problem import Problem

        given = match_arguments(self.spec, args, named)
        bound = bound_to(fit_call(self.spec, given, {}), self.spec, given, {})
        backend = self.backend or backend_for(bound)
        return self.tune_for(Problem.of(self.compilation, backend, bound), budget, progress)

    def tune_for(self, problem: "Problem", budget: float = 20.0, progress: bool = False) -> "TuningReport":
        """The same for calls that nobody has arguments for."""
        from smir.tuning.tune import progress_bar, promising_forms, tune

        wanted, machine = frozenset(problem.wanted), self._backend(problem.backend).machine
        costs = self._training_costs(wanted) if wanted else self._costs
        forms = promising_forms(costs, machine, problem, self._form, tuple(self.compilation.plans))
        with progress_bar(self.spec.name, progress) as report:
            found = tune(self.compilation, problem, forms, self._chunk, budget, report)
        self._prepared.forget()
        return found

    # ---- source -------------------------------------------------------------------------------------------------

    def sources(self, backend: str | None = None) -> dict[str, str]:
        """The program of the form asked for as readable source files, by file name; else that of the cheapest form
        that has one (the convolution form is made of Fourier transforms and compiled parts)."""
        chosen = self._backend(backend)
        chunk = self._chunk or chosen.machine.chunk
        return chosen.sources(self.compilation, self._program_form(chosen.name), chunk)

    def source(self, backend: str | None = None) -> str:
        """The program as one readable text."""
        files = self.sources(backend)
        return (
            "\n\n".join(f"# ---- {name}\n{text}" for name, text in files.items())
            if len(files) > 1
            else next(iter(files.values()))
        )

    def emit(self, folder: str | Path, backend: str | None = None) -> tuple[Path, ...]:
        """Writes the source files into the folder, which is made if need be, and returns their paths."""
        if not isinstance(folder, (str, PathLike)):
            raise ArgumentError(f"the folder to write to is no path: {folder!r}", hint="for example emit('kernels')")
        folder, files = Path(folder), self.sources(backend)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ArgumentError(
                f"can't write to {folder}: {error.strerror or error}", hint="name another folder"
            ) from error
        return tuple(folder / name for name in files)

    # ---- running ------------------------------------------------------------------------------------------------

    @cached_property
    def _costs(self) -> "dict[str, Cost]":
        from smir.form_costs import form_costs

        return form_costs(self.compilation)

    @cached_property
    def _program_costs(self) -> "dict[str, Cost]":
        return {form: cost for form, cost in self._costs.items() if form in self.compilation.plans}

    def _training_costs(self, wanted: frozenset[str]) -> "dict[str, Cost]":
        """Those of a forward and a backward pass, for these gradients."""
        if wanted not in self._trained:
            from smir.form_costs import training_costs

            self._trained[wanted] = training_costs(self.compilation, wanted)
        return self._trained[wanted]

    def _packed_costs(self, wanted: frozenset[str], costs: "Mapping[str, Cost]") -> "dict[str, Cost]":
        """Those of the forms that take packed sequences on a GPU: a convolution would run over their borders."""
        if self._form == CONVOLUTION:
            raise FormError(
                f"the convolution form of {self.spec.name} takes no packed sequences on a GPU: its transforms go over "
                "the borders",
                hint=f"forms that do: {', '.join(self.compilation.plans)}",
            )
        key = wanted | {CU_SEQLENS}
        if key not in self._trained:
            self._trained[key] = {form: cost for form, cost in costs.items() if form in self.compilation.plans}
        return self._trained[key]

    def _backend(self, name: str | None) -> Backend:
        return find_backend(name or self.backend or DEFAULT_BACKEND)
