"""What `smir.compile` returns: a mixer that can be called, explained, verified and printed."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from smir.calls.axis_order import TOKENS_FIRST, check_layout, with_heads_first
from smir.calls.binding import bound_to, fit_call, match_arguments
from smir.calls.execution import backend_for, find_backend, require_plan
from smir.calls.form_choice import REFERENCE_TOKENS, Asked
from smir.compilation import Compilation, require_form
from smir.compiler import Options, compile_spec
from smir.derivatives import training_plan
from smir.errors import ArgumentError, FormError
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.running import Calls
from smir.sampling import check_counts, check_sizes
from smir.source import Source
from smir.specs import find_spec
from smir.states.fixed_cache import FixedCache
from smir.states.token_cache import DEFAULT_CAPACITY, TokenCache

if TYPE_CHECKING:
    from smir.explain import Explanation
    from smir.passes.gradients.saved_values import TrainingPlan
    from smir.tuning.problem import Problem
    from smir.tuning.tune import TuningReport
    from smir.verify import Report

VERIFIED_CHUNK = 16
LEVELS = ("mixer", "recurrence", "operators", "pairs", "tile", "plan")


def compile(
    spec: str | Path,
    *,
    form: str | None = None,
    backend: str | None = None,
    chunk: int | None = None,
    layout: str | None = None,
) -> "CompiledMixer":
    """Compiles a spec: a library name, a path, or the text itself (it has a newline or begins with `mixer`).

    `form` is one of those that `forms` of the result names: `step`, `scan`, `chunked`, `quadratic` or `convolution`
    (`docs/architecture.md` says what they are). Without it every call takes the cheapest legal one at its sizes.
    `backend` is `numpy` or `triton`; without it the arrays decide: CUDA tensors run on Triton, all others on numpy.
    `chunk` is the number of tokens per chunk. `layout` is the order of the axes of a call's inputs and output: `BTHD`
    (the default) or `BHTD`. Raises SmirError for everything that is wrong with them.
    """
    return compile_source(find_spec(spec), form=form, backend=backend, chunk=chunk, layout=layout)


def compile_source(
    source: Source,
    *,
    form: str | None = None,
    backend: str | None = None,
    chunk: int | None = None,
    layout: str | None = None,
    options: Options | None = None,
) -> "CompiledMixer":
    """The same for a text whose origin is known."""
    if backend is not None:
        find_backend(backend)
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ArgumentError(f"chunk is a positive number of tokens, not {chunk!r}", hint="64 suits most mixers")
    if layout is not None:
        check_layout(layout)
    done = compile_spec(source, options or Options())
    if form is not None:
        require_form(done, form)
    return CompiledMixer(done, form, backend, chunk, layout)


@lru_cache(maxsize=256)
def _compiled_again(
    source: Source, form: str | None, backend: str | None, chunk: int | None, layout: str | None = None
) -> "CompiledMixer":
    """What was pickled, one for all that were alike."""
    return compile_source(source, form=form, backend=backend, chunk=chunk, layout=layout)


class CompiledMixer:
    """A compiled mixer. Call it with arrays `[B, T, H, dims...]` (parameters `[H, dims...]`), by position or name."""

    def __init__(
        self,
        compilation: Compilation,
        form: str | None,
        backend: str | None,
        chunk: int | None,
        layout: str | None = None,
    ) -> None:
        self.compilation, self.layout = compilation, layout
        self.calls = Calls(compilation, Asked(form, backend, chunk))

    def __reduce__(self) -> tuple[Any, ...]:
        """Its text, and what was asked for: whoever reads it compiles it again."""
        return _compiled_again, (self.compilation.source, *self.asked.values())

    def __deepcopy__(self, memo: Any) -> "CompiledMixer":
        """Itself: nothing about it changes."""
        return self

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for beside the spec."""
        return {**asdict(self.calls.asked), "layout": self.layout}

    def __repr__(self) -> str:
        return f"<mixer {self.spec.name}, forms {', '.join(self.forms)}>"

    def __call__(
        self,
        *args: Any,
        state: Mapping[str, Any] | None = None,
        return_state: bool = False,
        cu_seqlens: Any = None,
        check_ranges: bool = False,
        layout: str | None = None,
        **named: Any,
    ) -> Any:
        """y `[B, T, H, dims...]` in the arrays' own type and on their device, and with `return_state` the final states.

        `state` maps the spec's state names to arrays `[B, H, dims...]`, with which the mixer goes on. A stabilised
        state S comes back as the mantissa of S e^S_log, beside `S_log`, and may be given so. `check_ranges` checks the
        values against the ranges that the spec promises. Raises SmirError before anything runs.

        `cu_seqlens` `[N + 1]`, integers on the arrays' device, says that the row of T tokens (B is 1) holds N sequences
        one behind the other, the n-th from `cu_seqlens[n]` to `cu_seqlens[n + 1]`; states are then `[N, H, dims...]`.
        Its values are checked where they are on the CPU; on a GPU, where that would make both wait, by `check_ranges`.

        With `layout="BHTD"` inputs and y are `[B, H, T, dims...]`; the kernels read and write them as views.
        """
        layout = self.layout if layout is None else layout
        if layout is None:
            return self.calls(args, named, state, return_state, cu_seqlens, check_ranges)

        def call(*args: Any, **named: Any) -> Any:
            return self.calls(args, named, state, return_state, cu_seqlens, check_ranges)

        return with_heads_first(self.calls, layout, call, args, named)

    def step(
        self,
        *args: Any,
        state: Mapping[str, Any] | None = None,
        inplace: bool = False,
        several: bool = False,
        layout: str | None = None,
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

        With `layout="BHTD"` several tokens are `[B, H, n, dims...]`.
        """
        layout = self.layout if layout is None else layout
        if layout is None:
            return self.calls.step(args, named, state, inplace, several)

        def step(*args: Any, **named: Any) -> Any:
            return self.calls.step(args, named, state, inplace, several)

        # a single token has no order of tokens and heads
        order = layout if several else TOKENS_FIRST
        found: tuple[Any, Mapping[str, Any]] = with_heads_first(self.calls, order, step, args, named)
        return found

    @overload
    def new_state(self, capacity: int = ..., graph: Literal[False] = ...) -> TokenCache: ...

    @overload
    def new_state(self, capacity: int = ..., *, graph: Literal[True]) -> FixedCache: ...

    def new_state(self, capacity: int = DEFAULT_CAPACITY, graph: bool = False) -> TokenCache | FixedCache:
        """The state before the first token of a mixer that keeps tokens, with room for `capacity` of them at first.

        `step(.., inplace=True)` appends to it without copying what it holds. With `graph` the memory never grows, and
        how much of it is filled is counted on the device, so that a CUDA graph of a step can be replayed as tokens go
        on; outputs of tokens without a place are NaN. Raises FormError for a mixer that looks ahead or whose state
        doesn't grow, and ArgumentError for a capacity that is none.
        """
        self.calls.call_states.require_causal("state to go on from")
        if self.calls.pair_segments is None:
            raise FormError(f"the state of {self.spec.name} doesn't grow: no memory is set aside for it",
                            hint="the first step, or a call with return_state=True, returns one")  # fmt: skip
        return FixedCache(self.calls.pair_segments.cache, capacity) if graph else TokenCache(capacity)

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
        return self.calls.choice.at(self.calls.backend(backend).machine, T, sequences, sizes)

    def _program_form(self, backend: str | None = None) -> str:
        """The form asked for, or the cheapest one that has kernels of its own."""
        return self.calls.choice.with_program(self.calls.backend(backend).machine)

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
        return self.calls.choice.reference_sizes

    def explain(self, **sizes: int) -> "Explanation":
        """What was recognised, which forms are legal and why others aren't, what they cost and where they cross."""
        from smir.explain import explain

        check_sizes(self.spec, sizes)
        return explain(self.compilation, self.form, {**self.reference_sizes, **sizes})

    def verify(self, **options: Any) -> "Report":
        """Every legal form against the float64 oracle; see `smir.verify.verify` for the options."""
        from smir.verify import verify

        return verify(self.compilation, **{"chunk": self.calls.asked.chunk or VERIFIED_CHUNK, **options})

    def tune(self, *args: Any, budget: float = 20.0, progress: bool = False, **named: Any) -> "TuningReport":
        """Measures forms, chunk sizes and launch options for calls like this one, within `budget` seconds.

        Takes the arguments of a call, of which only sizes, types and the device count; tensors that require a gradient
        are tuned forward and backward. What is found is written to the user's cache directory and serves all lengths
        of the same class and all batches, in this process and in later ones. `progress` shows a bar. (An argument of
        the spec that is called `budget` or `progress` is given by position.) Raises SmirError.
        """
        from smir.tuning.problem import Problem

        given = match_arguments(self.spec, args, named)
        bound = bound_to(fit_call(self.spec, given, {}), self.spec, given, {})
        backend = self.calls.asked.backend or backend_for(bound)
        return self.tune_for(Problem.of(self.compilation, backend, bound), budget, progress)

    def tune_for(self, problem: "Problem", budget: float = 20.0, progress: bool = False) -> "TuningReport":
        """The same for calls that nobody has arguments for."""
        from smir.tuning.tune import progress_bar, promising_forms, tune

        asked, machine = self.calls.asked, self.calls.backend(problem.backend).machine
        costs = self.calls.choice.costs_of(frozenset(problem.wanted))
        forms = promising_forms(costs, machine, problem, asked.form, tuple(self.compilation.plans))
        with progress_bar(self.spec.name, progress) as report:
            found = tune(self.compilation, problem, forms, asked.chunk, budget, report)
        self.calls.prepared.forget()
        return found

    # ---- source -------------------------------------------------------------------------------------------------

    def sources(self, backend: str | None = None) -> dict[str, str]:
        """The program of the form asked for as readable source files, by file name; else that of the cheapest form
        that has one (the convolution form is made of Fourier transforms and compiled parts)."""
        chosen = self.calls.backend(backend)
        chunk = self.calls.asked.chunk or chosen.machine.chunk
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
