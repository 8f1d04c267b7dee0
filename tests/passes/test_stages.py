"""States that hold values of earlier states: recognised, and the same in every form."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.backends.numpy_reference.tile_interpreter import run_tile
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.verifier import verify
from smir.passes.forms.lower_chunked import lower_chunked
from smir.passes.forms.lower_quadratic import lower_quadratic
from smir.passes.kernels.partition import partition
from tests.passes.oracle_checks import (
    PRELUDE,
    assert_equals_oracle,
    mixer_of,
    random_arrays,
    random_states,
    recognised,
)
from tests.passes.staged_specs import STAGED, body

LOWERINGS = {"chunked": lower_chunked, "quadratic": lower_quadratic}


@pytest.mark.parametrize("name", STAGED)
def test_recognised_printed_and_read_again(name: str) -> None:
    mixer = mixer_of(body(name))
    program = recognised(mixer)
    verify(program)
    assert parse_ir(print_ir(program)) == program
    assert_equals_oracle(mixer, program)


@pytest.mark.parametrize("name", STAGED)
def test_the_compiler_makes_all_forms(name: str) -> None:
    assert {"step", "chunked", "quadratic"} <= set(smir.compile(PRELUDE + body(name)).forms)


@pytest.mark.parametrize("form", LOWERINGS)
@pytest.mark.parametrize("name", STAGED)
def test_form_equals_the_oracle(name: str, form: str) -> None:
    mixer = mixer_of(body(name))
    program = LOWERINGS[form](recognised(mixer))
    verify(program)
    assert parse_ir(print_ir(program)) == program
    plan = partition(program)
    verify(plan)
    assert parse_ir(print_ir(plan)) == plan
    arrays, states = random_arrays(mixer, 9), random_states(mixer)
    y, final = run_mixer(mixer, arrays, states)
    for chunk in (1, 4, 16):
        for got, ends in (
            run_tile(program, arrays, states, chunk=chunk),
            run_plan(plan, arrays, states, chunk=chunk),
        ):
            np.testing.assert_allclose(got, y, rtol=0, atol=1e-10 * max(1.0, np.abs(y).max()))
            for state, value in final.items():
                bound = 1e-10 * max(1.0, np.abs(value).max())
                np.testing.assert_allclose(ends[state], value, rtol=0, atol=bound, err_msg=state)


@pytest.mark.parametrize("decay", ["exp(gk[t])", "exp(gv[t]).T"])
def test_drives_between_states_that_decay_per_channel_are_refused_with_the_law(decay: str) -> None:
    text = f"""
        state M, S: K, V
        M[t] = {decay} * M[t-1] + k[t] @ v[t].T
        S[t] = exp(g[t]) * S[t-1] + M[t]
        y[t] = S[t].T @ q[t]
    """
    done = smir.compile(PRELUDE + text).compilation
    assert "step" in done.forms and not {"chunked", "quadratic"} & set(done.forms)
    for form in ("chunked", "quadratic"):
        (obstacle,) = done.obstacles[form]
        assert "`S` is driven by `M`, and `M` changes every channel apart" in str(obstacle)
        assert obstacle.span is not None


def test_queries_that_hold_reads_need_no_memory_between_kernels() -> None:
    """The second loop of the quadratic form goes on with what the first one holds."""
    plan = partition(lower_quadratic(recognised(mixer_of(body("a query that holds a read")))))
    assert all(b.name.startswith("prep") for b in plan.buffers), "only what every chunk makes once, before the loops"
    assert [len(k.loops) for k in plan.kernels if k.loops and k.stores] == [2]


def test_writes_that_hold_reads_get_them_through_memory() -> None:
    plan = partition(lower_quadratic(recognised(mixer_of(body("a write that holds a read")))))
    assert "S_read" in {b.name for b in plan.buffers}
