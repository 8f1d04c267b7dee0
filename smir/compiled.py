"""What `smir.compile` returns: a mixer that can be called, explained, verified and printed."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smir.binding import Bound, bound_to, check_promises, fit_call, match_arguments, match_states
from smir.compiler import DIRECT, Compilation, Options, compile_spec, require_form, training_plan
from smir.errors import ArgumentError, FormError
from smir.execution import Backend, Runner, backend_for, find_backend, forward_runner, require_plan
from smir.ir.convolution import CONVOLUTION
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.sizes import TIME_NAME
from smir.ir.tile_program import OUTPUT, SCAN, STEP
from smir.prepared import PreparedCall, PreparedCalls, call_key
from smir.sampling import check_counts, check_sizes, dimension_names
from smir.scaled_states import ScaledStates
from smir.source import Source
from smir.specs import find_spec

if TYPE_CHECKING:
    from smir.explain import Explanation
    from smir.passes.analysis.cost import Cost
    from smir.passes.analysis.select_form import Machine
    from smir.passes.gradients.saved_values import TrainingPlan
    from smir.verify import Report

DEFAULT_BACKEND, VERIFIED_CHUNK = "numpy", 16
# Sizes for predictions that are made before any array is seen.
REFERENCE_TOKENS, REFERENCE_SIZE = 4096, 64
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


class CompiledMixer:
    """A compiled mixer. Call it with arrays `[B, T, H, dims...]` (parameters `[H, dims...]`), by position or name."""

    def __init__(self, compilation: Compilation, form: str | None, backend: str | None, chunk: int | None) -> None:
        self.compilation = compilation
        self.backend = backend
        self._form, self._chunk = form, chunk
        self._prepared = PreparedCalls()
        self._choices: dict[tuple[Any, ...], str] = {}
        self._trained: dict[frozenset[str], dict[str, Cost]] = {}

    def __repr__(self) -> str:
        return f"<mixer {self.spec.name}, forms {', '.join(self.forms)}>"

    def __call__(
        self,
        *args: Any,
        state: Mapping[str, Any] | None = None,
        return_state: bool = False,
        check_ranges: bool = False,
        **named: Any,
    ) -> Any:
        """y `[B, T, H, dims...]` in the arrays' own type and on their device, and with `return_state` the final states.

        `state` maps the spec's state names to arrays `[B, H, dims...]`, with which the mixer goes on. A stabilised
        state S comes back as the mantissa of S e^S_log, beside `S_log`, and may be given so. `check_ranges` checks the
        values against the ranges that the spec promises. Raises SmirError before anything runs.
        """
        given, states = match_arguments(self.spec, args, named), match_states(self.scaled_states.interface, state)
        key = call_key(self.backend, given, states)
        call = self._prepared.find(key)
        if call is None:
            call = self._prepare(given, states)
            self._prepared.keep(key, call)
        if check_ranges:
            check_promises(self.spec, given)
        arrays, states = call.fit.canonical(self.spec, given, states)
        results, final = call.run(arrays, self.scaled_states.carried(states, call.fit.sizes))
        if not return_state:
            return call.fit.output(results[OUTPUT])
        # a masked operator's recurrence has states of its own, which no call could give back
        return call.fit.restore(results[OUTPUT], self.scaled_states.given_back(final))

    def _prepare(self, given: dict[str, Any], states: dict[str, Any]) -> PreparedCall:
        """Chooses backend, form and chunk for a call, and makes its kernels ready. Raises SmirError for a wrong one."""
        fit = fit_call(self.scaled_states.interface, given, states)
        bound = bound_to(fit, self.spec, given, states)
        bound = replace(bound, states=self.scaled_states.carried(bound.states, bound.sizes))
        backend = self._backend(self.backend or backend_for(bound))
        sizes = {name: size for name, size in bound.sizes.items() if name != TIME_NAME}
        costs = self._training_costs(bound.recorded) if bound.recorded else self._costs
        form = self._form or self._cheapest(costs, backend.machine, bound.tokens, bound.batch * bound.heads, sizes)
        return PreparedCall(fit, self._runner(backend, form, bound))

    def _runner(self, backend: Backend, form: str, bound: Bound) -> Runner:
        if form == CONVOLUTION:
            return self._convolver(backend, bound)
        chunk = self._chunk if self._chunk and form != STEP else backend.chunk_for(form, bound)
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
            return parts[part](**arrays, state=states)

        def sweep(arrays: Mapping[str, Any], states: Mapping[str, Any]) -> Mapping[str, Any]:
            return self._runner(backend, whole, bound)(arrays, states)[1]

        return Convolver(program, call, sweep)

    @cached_property
    def scaled_states(self) -> ScaledStates:
        """How a call's states become those that programs carry, and back."""
        return self.compilation.scaled_states

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
        """The form that a call would take at these sizes; `sequences` is batch times heads."""
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

    def _backend(self, name: str | None) -> Backend:
        return find_backend(name or self.backend or DEFAULT_BACKEND)
