"""What `smir.compile` returns: a mixer that can be called, explained, verified and printed."""

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smir.binding import bind
from smir.compiler import DIRECT, Compilation, Options, compile_spec, require_form, training_plan
from smir.errors import ArgumentError, FormError
from smir.execution import Backend, backend_for, find_backend
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.sizes import TIME_NAME
from smir.ir.tile import STEP
from smir.sampling import check_counts, check_sizes, dimension_names
from smir.source import Source
from smir.specs import find_spec

if TYPE_CHECKING:
    from smir.explain import Explanation
    from smir.passes.cost import Cost
    from smir.passes.saved_values import TrainingPlan
    from smir.passes.select_form import Machine
    from smir.verify import Report

DEFAULT_BACKEND, VERIFIED_CHUNK = "numpy", 16
# Sizes for predictions that are made before any array is seen.
REFERENCE_TOKENS, REFERENCE_SIZE = 4096, 64
LEVELS = ("mixer", "recurrence", "operators", "tile", "plan")


def compile(
    spec: str | Path, *, form: str | None = None, backend: str | None = None, chunk: int | None = None
) -> "CompiledMixer":
    """Compiles a spec: a library name, a path, or the text itself (it has a newline or begins with `mixer`).

    `form` is `step`, `chunked` or `quadratic`; without it every call takes the cheapest legal one at its sizes.
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

        `state` maps the spec's state names to arrays `[B, H, dims...]`, with which the mixer goes on. `check_ranges`
        checks the values against the ranges that the spec promises. Raises SmirError before anything runs.
        """
        bound = bind(self.spec, args, named, state, check_ranges=check_ranges)
        backend = self._backend(self.backend or backend_for(bound))
        sizes = {name: size for name, size in bound.sizes.items() if name != TIME_NAME}
        costs = self._training_costs(bound.recorded) if bound.recorded else self._costs
        form = self._form or self._cheapest(costs, backend.machine, bound.tokens, bound.batch * bound.heads, sizes)
        chunk = self._chunk if self._chunk and form != STEP else backend.chunk_for(form, bound)
        if bound.recorded:
            from smir.autograd import run_recorded

            y, final = run_recorded(self.compilation, backend, form, bound, chunk)
        else:
            y, final = backend.run(self.compilation, form, bound, chunk)
        # a masked operator's recurrence has states of its own, which no call could give back
        own = {s.name: final[s.name] for s in self.spec.states}
        return bound.restore(y, own) if return_state else bound.output(y)

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
        from smir.passes.select_form import select_form

        known = {**self.reference_sizes, **sizes}
        key = (id(costs), machine.name, T, sequences, *sorted(known.items()))
        if key not in self._choices:
            self._choices[key] = select_form(costs, machine, T, known, sequences)
        return self._choices[key]

    def plan(self, form: str | None = None) -> KernelPlan | None:
        """The kernel plan of a form (default: the chosen one); None for a mixer that only runs as written."""
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
        return training_plan(self.compilation, form or self.form, frozenset(wanted), options or Options())

    def ir(self, level: str = "plan", form: str | None = None) -> str:
        """The IR as text: `mixer`, `recurrence`, `operators`, `tile` or `plan` (the last two of a form)."""
        from smir.ir.printer import print_ir

        if level not in LEVELS:
            raise ArgumentError(f"there is no IR level {level!r}", hint=f"one of {', '.join(LEVELS)}")
        form = form or self.form
        require_form(self.compilation, form)
        by_form: dict[str, Any] = {"tile": self.compilation.tiles, "plan": self.compilation.plans}
        found: Any = by_form[level].get(form) if level in by_form else getattr(self.compilation, level)
        if found is None:
            raise FormError(f"{self.spec.name} has no {level} IR", hint="`explain` says which law breaks")
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
        """The program of the chosen form as readable source files, by file name."""
        chosen = self._backend(backend)
        chunk = self._chunk or chosen.machine.chunk
        form = self.form_for(T=REFERENCE_TOKENS, backend=chosen.name)
        return chosen.sources(self.compilation, form, chunk)

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
        from smir.passes.cost import plan_cost

        return {form: plan_cost(plan) for form, plan in self.compilation.plans.items()}

    def _training_costs(self, wanted: frozenset[str]) -> "dict[str, Cost]":
        """Those of a forward and a backward pass, for these gradients."""
        if wanted not in self._trained:
            from smir.passes.cost import plan_cost

            plans = {form: training_plan(self.compilation, form, wanted) for form in self.compilation.plans}
            self._trained[wanted] = {f: plan_cost(p.forward) + plan_cost(p.backward) for f, p in plans.items()}
        return self._trained[wanted]

    def _backend(self, name: str | None) -> Backend:
        return find_backend(name or self.backend or DEFAULT_BACKEND)
