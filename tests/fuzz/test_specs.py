"""Random specs of every class, with random dimensions, lengths, chunks and gates: every form agrees with the oracle.

A class promises its forms: a spec that loses one fails, even when the others are right.
"""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.compiled import CompiledMixer
from smir.ir.convolution import CONVOLUTION
from smir.ir.mixer import Mixer
from smir.ir.tile_program import CHUNKED, QUADRATIC, SCAN, STEP
from smir.sampling import sample_states
from smir.verify import run_form
from tests.fuzz.masked import Masked, masked
from tests.fuzz.recurrences import Recurrence, recurrences

BUDGET = 1e-9
DIMENSIONS = ["K", "V", "N", "D", "d", "head_dim", "t1"]
# Everything a body may mention; the text declares what it does mention.
DECLARATIONS = """input q, k: K
input v: V
input p: K
input x: V
input g: scalar in [-inf, 0]
input gk: K in [-inf, 0]
input gv: V in [-inf, 0]
input lam: scalar in (0, 1)
input lamk: K in (0, 1)
input lamv: V in (0, 1)
input keep, beta: scalar in [0, 1]
input dt: scalar in [0, 2]
input sg: scalar in [-1, 1]
input sk: K in [-1, 1]
param gamma: scalar in (0, 1)
param rate: scalar in [0, 3]
param u: K
param d: V"""
Spec = Recurrence | Masked
Results = dict[str, np.ndarray]


@dataclass(frozen=True)
class Run:
    """One call: sizes, where the sequence is cut, and how the arrays are drawn."""

    tokens: int
    chunk: int
    sizes: tuple[int, int]
    batch: int
    heads: int
    extreme: bool
    given_states: bool
    seed: int


def text(spec: Spec) -> str:
    """The spec as a person would write it."""
    body = spec.body()
    lines = ["mixer random"]
    for line in DECLARATIONS.splitlines():
        kind, names, rest = re.fullmatch(r"(\w+) ([\w, ]+): (.*)", line).groups()  # type: ignore[union-attr]
        used = [n for n in names.split(", ") if n in "qkv" or re.search(rf"\b{n}\b", body)]
        dims = re.sub(r"\b[KV]\b", lambda m: spec.rows if m[0] == "K" else spec.cols, rest)
        lines += [f"{kind} {', '.join(used)}: {dims}"] * bool(used)
    return "\n".join([*lines, body])


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Recurrences and masked operators over two dimensions of any names."""
    rows, cols = draw(st.permutations(DIMENSIONS))[:2]
    return draw(st.one_of(recurrences(rows, cols), masked(rows, cols)))


runs = st.builds(
    Run,
    tokens=st.sampled_from([1, 2, 3, 7, 16, 19]),
    chunk=st.sampled_from([1, 2, 3, 5, 8, 16, 64]),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    batch=st.integers(1, 2),
    heads=st.integers(1, 2),
    extreme=st.booleans(),
    given_states=st.booleans(),
    seed=st.integers(0, 1000),
)


def arguments(mixer: Mixer, spec: Spec, run: Run) -> tuple[Results, Results | None]:
    """Inputs and parameters in their ranges, extreme gates among them, and initial states or none."""
    sizes = dict(zip((spec.rows, spec.cols), run.sizes, strict=True))
    arrays = smir.sample(mixer, run.batch, run.tokens, run.heads, sizes, run.seed, run.extreme)
    states = sample_states(mixer, run.batch, run.heads, sizes, run.seed + 1)
    return arrays, states if run.given_states and states else None


def oracle(mixer: CompiledMixer, arrays: Results, states: Results | None) -> Results:
    """The output and the final states that a call gives back; those of a mask are of its recurrence."""
    y, final = run_mixer(mixer.spec, arrays, states)
    if mixer.spec.masked and mixer.compilation.lookahead is None:
        _, final = run_mixer(mixer.compilation.equations, arrays)
    return {"y": y, **final}


def promised(spec: Spec) -> list[set[str]]:
    """The forms of its class, one of these sets. Constant coefficients may bring a convolution besides."""
    if spec.step_only:
        return [{STEP}]
    contracted = {STEP, CHUNKED, QUADRATIC}
    # a mask may leave a window of few tokens, and no state but the number of tokens in it, which no read contracts
    return [contracted, {STEP, SCAN}] if isinstance(spec, Masked) else [contracted]


def check(spec: Spec, calls: list[Run]) -> None:
    """Parses, has the forms of its class, and every form is the oracle."""
    source = text(spec)
    note(source)
    mixer = smir.compile(source)
    assert set(mixer.forms) - {CONVOLUTION} in promised(spec), str(mixer.explain())
    for run in calls:
        arrays, states = arguments(mixer.spec, spec, run)
        expected = oracle(mixer, arrays, states)
        for form in mixer.forms:
            same(called(mixer, form, run, arrays, states), expected, form)


def called(mixer: CompiledMixer, form: str, run: Run, arrays: Results, states: Results | None) -> Results:
    """The output and the final states; no call takes the states of a mixer that looks ahead."""
    if mixer.compilation.lookahead is not None and form != CONVOLUTION:
        return run_form(mixer.compilation, form, arrays, states or {}, 1 if form == STEP else run.chunk)
    compiled = CompiledMixer(mixer.compilation, form, "numpy", run.chunk)
    y, final = compiled(**arrays, state=states, return_state=True)
    return {"y": y, **multiplied_out({n: a for n, a in final.items() if not n.endswith("_past")})}


def multiplied_out(final: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Final states as the oracle has them: a stabilised one comes as a mantissa and the log of its scale."""
    states = {n: a for n, a in final.items() if not n.endswith("_log")}
    logs = {n: final[f"{n}_log"] for n in states if f"{n}_log" in final}
    scales = {n: np.exp(log).reshape(log.shape + (1,) * (states[n].ndim - log.ndim)) for n, log in logs.items()}
    return {n: a * scales.get(n, 1.0) for n, a in states.items()}


def same(found: Results, expected: Results, form: str) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert np.isfinite(value).all(), "the spec itself is undefined here"
        scale = np.sqrt(np.mean(value**2)) or 1.0
        error = np.sqrt(np.mean((found[name] - value) ** 2)) / scale
        assert error <= BUDGET, f"{form} form: {name} is off by {error:.1e}"


@settings(max_examples=70, suppress_health_check=[HealthCheck.too_slow])
@given(specs(), st.lists(runs, min_size=2, max_size=3))
def test_every_form_of_a_random_spec_is_the_oracle(spec: Spec, calls: list[Run]) -> None:
    check(spec, calls)


@pytest.mark.full
@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(specs(), st.lists(runs, min_size=3, max_size=5))
def test_every_form_of_many_random_specs_is_the_oracle(spec: Spec, calls: list[Run]) -> None:
    check(spec, calls)
