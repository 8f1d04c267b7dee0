"""Kernels in Triton's interpreter, float32, against the numpy program of the same plan."""

from dataclasses import replace
from math import exp, inf, isnan

import pytest

import smir
from tests.triton.classes import LIBRARY, forms, marked
from tests.triton.conftest import Submit
from tests.triton.specs import SPECS
from tests.triton.work import (
    Case,
    compare,
    compare_gradients,
    compare_second,
    distance_error,
    exponential_ends,
    exponential_errors,
    trigonometric_error,
)

# How much worse than numpy in float32 a kernel may be: it sums in another order.
FACTOR = 8.0
PADDED = Case(T=21)
GRADIENTS = Case(T=21, H=1)
EXACT = Case(sizes=(("D", 16), ("K", 16), ("M", 32), ("N", 16), ("V", 32)), T=32, states=False)


OWN = [(name, form) for name, text in SPECS.items() for form in forms(text)]


# One spec for each transition class, between them with parameters, softplus and sigmoid gates, and both directions.
CLASSES = ["linear_attention", "scalar_decay", "gla", "dfw", "delta_rule", "kda", "retnet", "lion_s_norm", "momentum"]
# A parameter, reads of other tokens, rotations, functions of outputs: one for each kind of result of a backward pass.
RESULTS = ["shifted", "rotations", "elementwise", "recurrent"]


def known_sizes(spec: str, case: Case) -> Case:
    """The case with the sizes that the spec has names for."""
    from smir.sampling import dimension_names

    names = dimension_names(smir.compile(spec).spec)
    return replace(case, sizes=tuple((n, s) for n, s in case.sizes if n in names))


def assert_close(interpreted: Submit, spec: str, form: str, case: Case) -> None:
    errors = interpreted(compare, spec, form, known_sizes(spec, case)).result()
    assert max(errors.values()) < FACTOR, errors


@pytest.mark.parametrize(("name", "form"), marked(LIBRARY))
def test_library_with_padded_dimensions_and_ragged_tokens(interpreted: Submit, name: str, form: str) -> None:
    assert_close(interpreted, name, form, PADDED)


@pytest.mark.parametrize(("name", "form"), OWN)
def test_every_operation_and_layout(interpreted: Submit, name: str, form: str) -> None:
    assert_close(interpreted, SPECS[name], form, PADDED)


@pytest.mark.parametrize(
    ("name", "form"), [(n, f) if f == "chunked" else pytest.param(n, f, marks=pytest.mark.full) for n, f in OWN]
)
def test_sizes_without_padding(interpreted: Submit, name: str, form: str) -> None:
    assert_close(interpreted, SPECS[name], form, EXACT)


# Four segments of two chunks, of which the last has none, and tokens are missing in the one before it.
JOINED = Case(T=37, H=1, joined=True)
SEGMENTED = Case(T=85, H=1, segments=True)


@pytest.mark.parametrize(
    ("name", "form"),
    [("hgrn", "scan"), *(pytest.param(n, "chunked", marks=pytest.mark.full) for n in ("mlstm", "abc"))],
)
def test_walks_cut_into_segments(interpreted: Submit, name: str, form: str) -> None:
    assert_close(interpreted, name, form, SEGMENTED)


# ---- gradients --------------------------------------------------------------------------------------------------


def assert_gradients_close(interpreted: Submit, spec: str, form: str, case: Case) -> None:
    errors = interpreted(compare_gradients, spec, form, known_sizes(spec, case)).result()
    assert len(errors) >= 2 and max(errors.values()) < FACTOR, errors


@pytest.mark.parametrize(
    "name", ["scalar_decay", *(pytest.param(n, marks=pytest.mark.full) for n in ("gla", "lion_s"))]
)
def test_gradients_of_walks_cut_into_segments(interpreted: Submit, name: str) -> None:
    assert_gradients_close(interpreted, name, "chunked", SEGMENTED)


@pytest.mark.parametrize("name", CLASSES)
def test_gradients_of_classes(interpreted: Submit, name: str) -> None:
    assert_gradients_close(interpreted, name, "chunked", GRADIENTS)


@pytest.mark.parametrize("name", ["rglru", "mamba1"])
def test_gradients_of_scans(interpreted: Submit, name: str) -> None:
    """With results that are summed over blocks of the scan's lanes."""
    assert_gradients_close(interpreted, name, "scan", replace(GRADIENTS, sizes=(("D", 5), ("N", 2))))


@pytest.mark.parametrize("name", ["retnet", "kda"])
def test_gradients_step_by_step(interpreted: Submit, name: str) -> None:
    assert_gradients_close(interpreted, name, "step", Case(T=5))


@pytest.mark.parametrize("name", RESULTS)
def test_every_kind_of_gradient(interpreted: Submit, name: str) -> None:
    """Parameters, summed over tokens; tokens that are read elsewhere; halves of an axis; whole matrices."""
    form = "chunked" if "chunked" in forms(SPECS[name]) else "step"
    assert_gradients_close(interpreted, SPECS[name], form, GRADIENTS)


@pytest.mark.parametrize("name", ["gla", "kda"])
def test_gradients_with_resets(interpreted: Submit, name: str) -> None:
    assert_gradients_close(interpreted, name, "chunked", Case(T=21, extreme=True))


BACKWARD_STATE = """mixer m
  input q, k: K
  input v: V
  input g: K in [-inf, 0]
  state B: K, V
  B[t] = diag(exp(g[t])) @ B[t+1] + k[t] @ v[t].T
  y[t] = B[t].T @ q[t]
"""


def test_gradients_of_decays_per_channel_that_run_backward(interpreted: Submit) -> None:
    """On a level, the rows of even blocks are the queries."""
    assert_gradients_close(interpreted, BACKWARD_STATE, "chunked", Case(T=18, sizes=(("K", 6), ("V", 5))))


SECOND = [("hgrn", "scan"), ("retnet", "chunked")]
SECOND_IN_FULL = [("mamba3", "step"), ("mamba3", "chunked"), ("delta_rule", "quadratic"), ("gla", "chunked")]


@pytest.mark.parametrize(
    ("name", "form"), [*SECOND, *(pytest.param(*run, marks=pytest.mark.full) for run in SECOND_IN_FULL)]
)
def test_second_derivatives(interpreted: Submit, name: str, form: str) -> None:
    """Of everything by everything, over chunks the last of which is ragged."""
    case = known_sizes(name, Case(sizes=(("K", 6), ("V", 5), ("D", 5), ("N", 4)), T=18))
    errors = interpreted(compare_second, name, form, case).result()
    assert len(errors) >= 6 and max(errors.values()) < FACTOR, errors


def test_second_derivatives_of_a_softmax_are_refused_in_words(interpreted: Submit) -> None:
    error = interpreted(compare_second, "softmax_causal", "quadratic", Case(T=5)).exception()
    assert error is not None and "tiles as large as the sequence" in str(error)


@pytest.mark.full
@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_gradients_of_the_library(interpreted: Submit, name: str, form: str) -> None:
    assert_gradients_close(interpreted, name, form, Case())


@pytest.mark.full
@pytest.mark.parametrize(("name", "form"), OWN)
@pytest.mark.parametrize("case", [Case(), EXACT], ids=["padded", "exact"])
def test_gradients_of_every_operation(interpreted: Submit, name: str, form: str, case: Case) -> None:
    assert_gradients_close(interpreted, SPECS[name], form, case)


@pytest.mark.full
@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_library_over_several_chunks(interpreted: Submit, name: str, form: str) -> None:
    assert_close(interpreted, name, form, Case())


@pytest.mark.parametrize("form", [pytest.param("step", marks=pytest.mark.full), "chunked", "quadratic"])
@pytest.mark.parametrize("name", ["scalar_decay", "gla", "kda", "dfw", "lion_s"])
def test_exact_resets_and_strong_decays(interpreted: Submit, name: str, form: str) -> None:
    """Gates of -inf and -1e3 at chunk edges and elsewhere: no NaN, no lost digits."""
    assert_close(interpreted, name, form, Case(T=32, extreme=True))


@pytest.mark.parametrize("T", [1, 15, 16, 17])
def test_lengths_around_a_chunk(interpreted: Submit, T: int) -> None:
    assert_close(interpreted, "gated_delta_rule", "chunked", Case(T=T))


def test_larger_chunks_and_blocks(interpreted: Submit) -> None:
    """More blocks than one along a grid axis, and more levels."""
    assert_close(interpreted, "kda", "chunked", Case(sizes=(("K", 32), ("V", 144)), T=70, chunk=32))


def test_angles_of_rotations(interpreted: Submit) -> None:
    """As accurate as float32 for angles of more than a thousand turns."""
    assert max(interpreted(trigonometric_error, size).result() for size in (1.0, 100.0, 8000.0)) < 2e-7


def test_powers_of_e(interpreted: Submit) -> None:
    """As exact as float32 over its whole range, and for small decays without a lean that a long product would show."""
    found = interpreted(exponential_errors).result()
    assert found["largest"] <= 1.0 and abs(found["mean"]) < 0.02, found


def test_powers_of_e_at_the_ends(interpreted: Submit) -> None:
    *numbers, last = interpreted(exponential_ends).result()
    assert numbers == [0.0, 0.0, 0.0, 1.0, inf, inf, pytest.approx(exp(88.7), rel=1e-5)] and isnan(last)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_sums_between_rows(interpreted: Submit, reverse: bool, exclusive: bool, resets: bool) -> None:
    """Differences of running sums err as little as sums of float32 do, also beside resets."""
    assert interpreted(distance_error, reverse, exclusive, resets).result() < 6e-7


@pytest.mark.parametrize("name", ["scalar_decay", "mamba2_ssd", pytest.param("lion_s", marks=pytest.mark.full)])
def test_results_that_are_made_from_the_start(interpreted: Submit, name: str) -> None:
    """Inner products of states among them, which are taken from memory."""
    assert_gradients_close(interpreted, name, "chunked", JOINED)
