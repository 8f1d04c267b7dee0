"""The kernels of the mixers of the literature in Triton's interpreter, forward and backward."""

import pytest

import smir
from docs.catalogue import LITERATURE
from tests.triton.conftest import Submit
from tests.triton.work import Case, compare, compare_gradients

# How much worse than numpy in float32 a kernel may be: it sums in another order.
FACTOR = 8.0
SMALL = Case(T=21, H=1)
SPECS = {path.stem: str(path) for path in sorted(LITERATURE.glob("*.smir"))}
AS_WRITTEN = ("stick_breaking", "wall_attention")
# One of each kind that differs from all library specs; the others run with `make test-all`.
ALWAYS = ("longhorn", "parallax")
CASES = [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.full) for n in SPECS if n not in AS_WRITTEN]


@pytest.mark.parametrize("name", CASES)
def test_forward(interpreted: Submit, name: str) -> None:
    for form in smir.compile(SPECS[name]).compilation.plans:
        errors = interpreted(compare, SPECS[name], form, SMALL).result()
        assert max(errors.values()) < FACTOR, (form, errors)


# Between them softmaxes over a padded axis whose decay is a factor: 0 there, with the logarithm -inf.
WITH_GRADIENTS = ("regla",)
BACKWARD = [n if n in WITH_GRADIENTS else pytest.param(n, marks=pytest.mark.full) for n in SPECS if n not in AS_WRITTEN]


@pytest.mark.parametrize("name", BACKWARD)
def test_gradients(interpreted: Submit, name: str) -> None:
    form = list(smir.compile(SPECS[name]).compilation.plans)[-1]
    errors = interpreted(compare_gradients, SPECS[name], form, SMALL).result()
    assert len(errors) >= 2 and max(errors.values()) < FACTOR, errors
