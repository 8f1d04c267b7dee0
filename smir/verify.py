"""`mixer.verify()`: every legal form against the float64 oracle, on seeded random arguments inside the promised ranges.

The budget: in float64 a form agrees to 1e-9 of the oracle's RMS; in float32 its RMS error is at most twice that of the
float32 step form (five times with an erase term), or 2e-6 of the oracle's RMS, whichever is larger. Without step
equations, its form with the whole sequence as one chunk stands in for the step form. Outputs and final states alike,
never a NaN where the oracle has a number (what a spec itself leaves undefined, say 0/0, is left out).

Gradients keep the same budget. The truth is the step form's backward pass in float64: backpropagation token by token;
of a mixer without step equations, that of the sequence as one chunk.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.plan_interpreter import run_plan, run_results
from smir.calls.binding import fit_call
from smir.compilation import DIRECT, Compilation
from smir.derivatives import training_plan
from smir.ir.convolution import CONVOLUTION
from smir.ir.formula import formula
from smir.ir.head_groups import whole_heads
from smir.ir.tile_program import OUTPUT, STEP, TileProgram
from smir.passes.analysis.exponents import USER, Exponent, exponent_report
from smir.passes.gradients.adjoint_program import PREFIX
from smir.sampling import check_counts, sample, sample_states

Array = NDArray[Any]
Results = dict[str, Array]
FLOAT64_BUDGET, FLOAT32_BUDGET = 1e-9, 2e-6
STEP_FACTOR, ERASE_FACTOR = 2.0, 5.0
# A gradient this much smaller than the largest one is what rounding leaves of zero.
CANCELLED = 1e-6
CASES = ("usual", "extreme")


@dataclass(frozen=True)
class Row:
    """One comparison: the RMS error of one result of one form, relative to the oracle's RMS, and what is allowed."""

    form: str
    dtype: str
    case: str
    result: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """NaN never passes."""
        return self.error <= self.allowed


@dataclass(frozen=True)
class Report:
    """All comparisons of one mixer, and the exps whose arguments aren't proved bounded."""

    mixer: str
    rows: tuple[Row, ...]
    unproved: tuple[str, ...]
    sizes: Mapping[str, int]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    @property
    def verdict(self) -> str:
        if not self.rows:
            return "nothing to verify, it only runs as written"
        return "verified" if self.passed else "FAILED"

    def to_json(self) -> dict[str, object]:
        rows = [{**asdict(row), "passed": row.passed} for row in self.rows]
        return {"mixer": self.mixer, "passed": self.passed, "sizes": dict(self.sizes), "rows": rows,
                "unproved_exponents": list(self.unproved)}  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{self.mixer}: {self.verdict} at {_sizes(self.sizes)}"]
        for row in self.rows:
            mark = "ok  " if row.passed else "FAIL"
            what = f"{row.form:<12}{row.dtype:<9}{row.case:<9}{row.result:<8}"
            lines.append(f"  {mark} {what} error {row.error:.1e}  allowed {row.allowed:.1e}")
        lines += [f"  not proved bounded: {e}" for e in self.unproved]
        return "\n".join(lines)


def verify(done: Compilation, *, chunk: int = 16, B: int = 2, T: int = 50, H: int = 2,
           sizes: Mapping[str, int] | None = None, seed: int = 0, gradients: bool = False) -> Report:  # fmt: skip
    """Compares every legal form with the oracle; `sizes` are those of the spec's dimension names, and there are so many
    heads that its groups of heads are whole.

    With `gradients`, also the gradients of all arguments, for random cotangents of the output and the final states.
    """
    check_counts(chunk=chunk, B=B, T=T, H=H)
    H = whole_heads(done.spec, H)
    rows = [row for case in CASES for row in _case_rows(done, case, chunk, (B, T, H), sizes, seed, gradients)]
    exps = {text for program in done.tiles.values() for text in unproved(program)}
    return Report(
        done.spec.name, tuple(rows), tuple(sorted(exps)), {"B": B, "T": T, "H": H, "chunk": chunk, **(sizes or {})}
    )


def unproved(program: TileProgram) -> list[str]:
    """The exps of a program whose arguments aren't proved bounded, as text."""
    return [_exponent(program.form, e) for e in exponent_report(program) if not e.proved]


def _exponent(form: str, e: Exponent) -> str:
    whose = "written in the spec" if e.origin == USER else "made by the compiler"
    return f"{formula(e.node)} in {e.interval} ({form} form, {whose})"


def _case_rows(done: Compilation, case: str, chunk: int, shape: tuple[int, int, int],
               sizes: Mapping[str, int] | None, seed: int, gradients: bool) -> list[Row]:  # fmt: skip
    B, T, H = shape
    arrays = sample(done.spec, B, T, H, sizes, seed, extreme=case == "extreme")
    states = sample_states(done.spec, B, H, sizes, seed + 1) if case == "usual" else {}
    oracle = _named(*run_mixer(done.spec, arrays, states))

    def results(form: str, dtype: Any, rows: int = chunk) -> Results:
        given = _cast(arrays, dtype), _cast(states, dtype)
        return run_form(done, form, *given, _chunk(form, rows))

    rows = _compared(done, case, oracle, results, T, done.forms if done.plans else ())
    if not gradients or done.forms == (DIRECT,):
        return rows
    rng = np.random.default_rng(seed + 2)
    cotangents = {name: rng.standard_normal(a.shape) for name, a in oracle.items()}

    def derived(form: str, dtype: Any, rows: int = chunk) -> Results:
        given = _cast(arrays, dtype), _cast(states, dtype), _cast(cotangents, dtype)
        return form_gradients(done, form, *given, _chunk(form, rows))

    truth = derived(STEP, np.float64) if STEP in done.plans else derived(done.forms[0], np.float64, T)
    # what cancels exactly, such as the gradient of a quotient that is constant, is compared with the other gradients
    return rows + _compared(done, case, truth, derived, T, done.plans, CANCELLED * max(map(rms, truth.values())))


def _compared(
    done: Compilation,
    case: str,
    truth: Results,
    run: Callable[..., Results],
    tokens: int,
    forms: Iterable[str],
    floor: float = 0.0,
) -> list[Row]:
    """Every form in both types against the truth; errors are relative to its RMS, or to `floor` where that is more.

    `run(form, type, rows of a chunk)`; a mixer without step equations is measured by the whole sequence as one chunk.
    """
    rows, step32 = [], {}
    if STEP not in done.plans and done.plans:
        whole = run(done.forms[0], np.float32, tokens)
        step32 = {name: relative_rms(whole[name], value, floor) for name, value in truth.items()}
    for dtype in (np.float64, np.float32):
        for form in forms:
            found = run(form, dtype)
            errors = {name: relative_rms(found[name], value, floor) for name, value in truth.items()}
            if form == STEP and dtype is np.float32:
                step32 = errors
            for name, error in errors.items():
                allowed = FLOAT64_BUDGET if dtype is np.float64 else _allowed32(done, step32.get(name, 0.0))
                rows.append(Row(form, np.dtype(dtype).name, case, name, error, allowed))
    return rows


def run_form(done: Compilation, form: str, arrays: Results, states: Results, chunk: int) -> Results:
    """y and the final states of the spec: what is carried as a mantissa is multiplied out in float64."""
    if form == CONVOLUTION:
        from smir.compiled import CompiledMixer

        given: dict[str, Any] = {**arrays, "state": states}
        y, final = CompiledMixer(done, form, "numpy", None)(**given, return_state=True)
        return _named(y, final)
    sizes = fit_call(done.spec, arrays, states).sizes
    y, final = run_plan(done.plans[form], arrays, done.scaled_states.carried(states, sizes), chunk=chunk)
    return _named(y, done.scaled_states.multiplied_out(final))


def form_gradients(
    done: Compilation, form: str, arrays: Results, states: Results, cotangents: Results, chunk: int
) -> Results:
    """Gradients of all inputs, parameters and initial states, as `d_<name>`; `cotangents` of y and the final states.

    One training step: the forward kernels, then the backward kernels with the values that were kept.
    """
    names = [d.name for d in done.spec.declarations] + [s.name for s in done.spec.states]
    plan, scaled = training_plan(done, form, frozenset(names)), done.scaled_states
    start = start_states(done, arrays, states)
    found, final = run_results(plan.forward, arrays, start, chunk=chunk)
    kept = {given: found[name] for name, given in plan.kept.items()}
    d_y = cotangents[OUTPUT]
    seeds = {s.name: cotangents[s.name] * scaled.scale(s.name, final) for s in done.spec.states}
    given = {**start, **{PREFIX + name: seed.astype(d_y.dtype) for name, seed in seeds.items()}}
    found, of_states = run_results(plan.backward, {**arrays, **kept, PREFIX + OUTPUT: d_y}, given, chunk=chunk)
    for name in (s.name for s in done.spec.states if PREFIX + s.name in of_states):
        found = {**found, PREFIX + name: of_states[PREFIX + name] / scaled.scale(name, start)}
    return {PREFIX + name: found[PREFIX + name] for name in names if PREFIX + name in found}


def start_states(done: Compilation, arrays: Results, states: Results) -> Results:
    """What programs start from where gradients of all initial states are asked for, those that aren't given too."""
    fit = fit_call(done.spec, arrays, states)
    open_ = {
        s.name: np.full((fit.batch, fit.heads, *(d.size(fit.sizes) for d in s.dims)), s.initial, np.dtype(fit.dtype))
        for group in done.scaled_states.members.values()
        for s in group
    }
    return done.scaled_states.carried({**open_, **states}, fit.sizes, differentiable=True)


def _allowed32(done: Compilation, step_error: float) -> float:
    erases = done.operators is not None and any(o.erases for o in done.operators.operators)
    return max((ERASE_FACTOR if erases else STEP_FACTOR) * step_error, FLOAT32_BUDGET)


def _chunk(form: str, chunk: int) -> int:
    return 1 if form == STEP else chunk


def _named(y: Array, states: Mapping[str, Array]) -> Results:
    return {OUTPUT: y, **states}


def _cast(arrays: Mapping[str, Array], dtype: Any) -> Results:
    return {name: a.astype(dtype) for name, a in arrays.items()}


def rms(values: Array) -> float:
    """Root mean square of the finite values."""
    defined = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(defined**2))) if defined.size else 0.0


def relative_rms(found: Array, truth: Array, floor: float) -> float:
    """RMS of the difference over the RMS of the truth, where the truth is finite; NaN when the result isn't there."""
    defined = np.isfinite(truth)
    if not defined.any():
        return 0.0
    difference = found[defined].astype(np.float64) - truth[defined]
    scale = max(rms(truth), floor)
    error = float(np.sqrt(np.mean(difference**2)))
    return error / scale if scale else error


def _sizes(sizes: Mapping[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in sizes.items())
