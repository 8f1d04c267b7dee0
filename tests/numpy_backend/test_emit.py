"""The printed numpy program, run by a Python that can import numpy only."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smir.backends.numpy_reference.emit import emit_numpy
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.operator_interpreter import run_operators
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.errors import IRError
from smir.frontends import parse_mixer
from smir.ir.kernel import KernelPlan
from smir.ir.operator import BACKWARD, BEFORE
from smir.passes.forms.lower_chunked import lower_chunked
from smir.passes.forms.lower_quadratic import lower_quadratic
from smir.passes.forms.lower_step import lower_step
from smir.passes.kernels.partition import partition
from smir.source import Source
from tests.passes.operator_programs import Case, arrays, program

CASES = {
    "scalar": Case(scalar=True, normaliser=True),
    "diagonal": Case(rows=True, moment=BEFORE),
    "both sides": Case(rows=True, cols=True, signed=True),
    "erasing": Case(rows=True, erases=(1, 1), transposed=True),
    "backward": Case(scalar=True, direction=BACKWARD),
}
LOWERINGS = {"chunked": lower_chunked, "quadratic": lower_quadratic}
RUNNER = """
import sys
import numpy as np
import {program} as program
data = dict(np.load(sys.argv[1]))
states = {{n[6:]: data.pop(n) for n in list(data) if n.startswith("state_")}}
y, final = program.run(**data, state=states, **{options})
np.savez(sys.argv[2], y=y, **{{"final_" + n: a for n, a in final.items()}})
loaded = [m for m in sys.modules if m.split(".")[0] in ("smir", "torch", "triton", "lark", "sympy", "networkx")]
assert not loaded, loaded
"""


def run_alone(folder: Path, text: str, data: dict[str, np.ndarray], options: str) -> dict[str, np.ndarray]:
    (folder / "printed.py").write_text(text)
    runner = RUNNER.format(program="printed", options=options)
    np.savez(folder / "in.npz", **data)
    paths = f"import sys; sys.path[:0] = [{str(folder)!r}]\n"
    subprocess.run(
        [sys.executable, "-I", "-c", paths + runner, str(folder / "in.npz"), str(folder / "out.npz")], check=True
    )
    return dict(np.load(folder / "out.npz"))


@pytest.mark.parametrize("form", LOWERINGS)
@pytest.mark.parametrize("name", CASES)
def test_printed_program_agrees(name: str, form: str, tmp_path: Path) -> None:
    operators = program(CASES[name])
    plan = partition(LOWERINGS[form](operators))
    inputs, states = arrays(operators, 5, 13)
    y, final = run_operators(operators, inputs, states)
    text = emit_numpy(plan)
    assert "smir" not in text.replace("_smir", "")
    used = {leaf.name: inputs[leaf.name] for leaf in plan.leaves}
    options = '{"chunk": 5}' if "chunk=64" in text else "{}"
    got = run_alone(tmp_path, text, used | {f"state_{n}": s for n, s in states.items()}, options)
    np.testing.assert_allclose(got["y"], y, atol=1e-10)
    for state, value in final.items():
        np.testing.assert_allclose(got[f"final_{state}"], value, atol=1e-10)


def test_program_names_the_spec_and_its_formulas() -> None:
    text = emit_numpy(partition(lower_chunked(program(Case(scalar=True)))))
    signature = "def run(q, k, v, g, state=None, chunk=64):"
    for part in (signature, "# carry_S: y = ", "; S = S_before * ", "for c in range(n):"):
        assert part in text
    assert "def segment_sum" in text and "def unit_inverse" not in text, "only helpers that are used"
    assert max(map(len, text.splitlines())) < 600


def test_names_that_are_no_identifiers_are_refused() -> None:
    plan = partition(lower_chunked(program(Case())))
    with pytest.raises(IRError, match="no name"):
        emit_numpy(KernelPlan('x"""\nimport os', plan.form, plan.leaves, plan.results, plan.buffers, plan.kernels))


def test_float32_stays_float32_in_print_and_in_the_interpreter() -> None:
    operators = program(Case(rows=True, erases=(1,)))
    plan = partition(lower_chunked(operators))
    inputs = {n: a.astype(np.float32) for n, a in arrays(operators, 5, 40)[0].items()}
    space: dict[str, object] = {}
    exec(compile(emit_numpy(plan, chunk=16), "printed", "exec"), space)
    y, final = space["run"](*(inputs[leaf.name] for leaf in plan.leaves))  # type: ignore[operator]
    expected, _ = run_plan(plan, inputs, chunk=16)
    assert y.dtype == np.float32 == final["S"].dtype == expected.dtype
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_printed_step_form_of_two_directions() -> None:
    text = """mixer two
      input q, k: K; input v: V; param gamma: scalar in (0, 1)
      state F, B: K, V
      F[t] = gamma * F[t-1] + k[t] @ v[t].T
      B[t] = gamma * B[t+1] + k[t+1] @ v[t].T
      y[t] = (F[t] + B[t]).T @ q[t]"""
    mixer = parse_mixer(Source("two", text))
    rng = np.random.default_rng(0)
    inputs = {n: rng.normal(size=(2, 9, 2, size)) for n, size in (("q", 4), ("k", 4), ("v", 3))}
    inputs["gamma"] = rng.random(2)
    space: dict[str, object] = {}
    exec(compile(emit_numpy(partition(lower_step(mixer))), "printed", "exec"), space)
    y, final = space["run"](**inputs)  # type: ignore[operator]
    expected, end = run_mixer(mixer, inputs)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    np.testing.assert_allclose(final["B"], end["B"], atol=1e-12)
