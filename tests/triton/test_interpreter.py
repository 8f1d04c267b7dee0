"""Kernels in Triton's interpreter, float32, against the numpy program of the same plan."""

import pytest

import smir
from tests.triton.conftest import Submit
from tests.triton.specs import SPECS
from tests.triton.work import Case, compare

# How much worse than numpy in float32 a kernel may be: it sums in another order.
FACTOR = 8.0
PADDED = Case()
EXACT = Case(sizes=(("D", 16), ("K", 16), ("M", 32), ("N", 16), ("V", 32)), T=32, states=False)


def forms(spec: str) -> tuple[str, ...]:
    return tuple(smir.compile(spec).compilation.plans)


LIBRARY = [(name, form) for name in smir.library_names() for form in forms(name)]
OWN = [(name, form) for name, text in SPECS.items() for form in forms(text)]


def known_sizes(spec: str, case: Case) -> Case:
    """The case with the sizes that the spec has names for."""
    from smir.sampling import dimension_names

    names = dimension_names(smir.compile(spec).spec)
    return Case(tuple((n, s) for n, s in case.sizes if n in names), case.T, case.chunk, case.states, case.extreme)


def assert_close(interpreted: Submit, spec: str, form: str, case: Case) -> None:
    errors = interpreted(compare, spec, form, known_sizes(spec, case)).result()
    assert max(errors.values()) < FACTOR, errors


@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_library_with_padded_dimensions_and_ragged_tokens(interpreted: Submit, name: str, form: str) -> None:
    assert_close(interpreted, name, form, PADDED)


@pytest.mark.parametrize(("name", "form"), OWN)
@pytest.mark.parametrize("case", [PADDED, EXACT], ids=["padded", "exact"])
def test_every_operation_and_layout(interpreted: Submit, name: str, form: str, case: Case) -> None:
    assert_close(interpreted, SPECS[name], form, case)


@pytest.mark.parametrize("form", ["step", "chunked", "quadratic"])
@pytest.mark.parametrize("name", ["scalar_decay", "gla", "kda", "rwkv6", "dfw", "lion_s", "dplr"])
def test_exact_resets_and_strong_decays(interpreted: Submit, name: str, form: str) -> None:
    """Gates of -inf and -1e3 at chunk edges and elsewhere: no NaN, no lost digits."""
    assert_close(interpreted, name, form, Case(T=48, extreme=True))


@pytest.mark.parametrize("T", [1, 15, 16, 17])
def test_lengths_around_a_chunk(interpreted: Submit, T: int) -> None:
    assert_close(interpreted, "gated_delta_rule", "chunked", Case(T=T))


def test_larger_chunks_and_blocks(interpreted: Submit) -> None:
    """More blocks than one along a grid axis, and more levels."""
    assert_close(interpreted, "kda", "chunked", Case(sizes=(("K", 32), ("V", 144)), T=100, chunk=64))
