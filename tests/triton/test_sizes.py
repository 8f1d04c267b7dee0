"""Kernels in Triton's interpreter, float32, at sizes that are padded more than they are filled."""

import pytest

import smir
from tests.sizes.cases import CLASSES, sizes_of
from tests.triton.conftest import Submit
from tests.triton.work import Case, compare

# As in tests/triton: a kernel sums in another order than numpy.
FACTOR = 8.0
SOME = ["scalar_decay", "delta_rule", "hgrn", "softmax_causal"]
PAIRS = [(1, 17), (17, 3), (3, 1)]


def check(interpreted: Submit, name: str, pair: tuple[int, int], T: int) -> None:
    mixer = smir.compile(name)
    sizes = tuple(sizes_of(mixer.spec, *pair).items())
    for form in mixer.compilation.plans:
        errors = interpreted(compare, name, form, Case(sizes=sizes, T=T)).result()
        assert max(errors.values()) < FACTOR, (form, sizes, errors)


@pytest.mark.parametrize("name", SOME)
def test_small_dimensions(interpreted: Submit, name: str) -> None:
    for pair in PAIRS:
        check(interpreted, name, pair, T=5)


@pytest.mark.full
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("pair", [(K, V) for K in (1, 3, 17) for V in (1, 3, 17)])
def test_all_small_dimensions(interpreted: Submit, name: str, pair: tuple[int, int]) -> None:
    for T in (1, 16, 17):
        check(interpreted, name, pair, T)


def test_maxima_do_not_leave_out_nan() -> None:
    """A GPU's own maximum is the other number: a clamp would make a strong decay of a NaN."""
    files = smir.compile("scalar_decay", form="chunked").sources("triton")
    kernels = {name: text for name, text in files.items() if name != "tiles.py"}
    assert any("larger(g, -16384.0)" in text for text in kernels.values())
    lines = [line for text in kernels.values() for line in text.splitlines() if "next_tile = " not in line]
    assert not any("tl.maximum(" in line or "tl.minimum(" in line for line in lines), "of numbers, not of places"
    assert files["tiles.py"].count("propagate_nan=tl.PropagateNan.ALL") == 2
