"""A NaN or infinity in one argument is passed on, and stays where it belongs: in its row and head, and, in a mixer that
looks back, at later tokens and those of its own chunk."""

import numpy as np
import pytest

import smir
from smir.ir.convolution import CONVOLUTION
from smir.ir.tile_program import CHUNKED, INNER, QUADRATIC, SCAN, STEP
from tests.equivalences.specs import CAUSAL, arguments, mixer

CHUNK, AT = 8, 13
# Forms that go token by token, in which no product meets a later token.
EXACT = (STEP, SCAN)
NAMES = smir.library_names()


def check(name: str, form: str, of: str, bad: float) -> None:
    compiled = mixer(name, form, CHUNK if form in (CHUNKED, QUADRATIC) else None)
    given = arguments(name)
    plain = compiled(**given)
    changed = {n: a.copy() for n, a in given.items()}
    changed[of][0, AT, 0] = bad
    with np.errstate(all="ignore"):
        found = compiled(**changed)
    # of a head that serves several, all of them
    served = found.shape[2] // given[of].shape[2]
    assert np.array_equal(found[1:], plain[1:]) and np.array_equal(found[:, :, served:], plain[:, :, served:])
    assert np.isnan(bad) <= (not np.isfinite(found[0, :, :served]).all())
    if name in CAUSAL and form != CONVOLUTION:
        first = AT if form in EXACT else AT // CHUNK * CHUNK
        first = 0 if form == QUADRATIC and is_one_chunk(name) else first
        assert np.array_equal(found[:, :first], plain[:, :first])


def is_one_chunk(name: str) -> bool:
    """Whether the quadratic form takes the whole sequence as one chunk, as where erases chain all tokens."""
    plan = mixer(name).compilation.plans[QUADRATIC]
    return not any(loop.scan.order in INNER for kernel in plan.kernels for loop in kernel.loops)


@pytest.mark.parametrize(("position", "name"), list(enumerate(NAMES))[::3])
def test_it_stays_in_its_row_head_and_chunk(position: int, name: str) -> None:
    """One of a spec's inputs, in all forms; the others are in full runs."""
    inputs, turn = [d.name for d in mixer(name).spec.inputs], position // 3
    for form in mixer(name).forms:
        check(name, form, inputs[turn % len(inputs)], (np.nan, np.inf, -np.inf)[turn % 3])


@pytest.mark.full
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_whatever_input_it_is_in(name: str, bad: float) -> None:
    for form in mixer(name).forms:
        for d in mixer(name).spec.inputs:
            check(name, form, d.name, bad)
