"""Steps in Triton's interpreter: one kernel, the states in place if asked, the numbers of the numpy backend."""

import pytest

from tests.triton.conftest import Submit
from tests.triton.steps import decode

# One for each kind of state: with an erase, shared by blocks of values, with a log, two-level, a mask's, rotating,
# elementwise, complex, with older inputs of one and of several tokens.
KINDS = "gated_delta_rule linear_attention_elu_norm mlstm mamba3 rwkv4 short_convolution".split()
MORE = "gsa retnet s4d lstm rwkv5 momentum performer kda delta_rule hgrn mamba1 roformer_linear dfw abc".split()
LIMIT = 2e-6


@pytest.mark.parametrize("name", [*KINDS, *(pytest.param(name, marks=pytest.mark.full) for name in MORE)])
def test_a_step_is_one_kernel(interpreted: Submit, name: str) -> None:
    found = interpreted(decode, name).result()
    assert max(found.y, found.states, found.several, found.short) < LIMIT
    assert found.same, "in place and apart, 16 bits stay 16 bits"
    assert (found.launches, found.in_place) == (1, 1)


OLDER = """
mixer older
  input x: D
  state s: D
  s[t] = 0.5 * s[t-1] + 0.25 * s[t-3] + x[t-1]
  y[t] = s[t]
"""


def test_older_states_are_states(interpreted: Submit) -> None:
    found = interpreted(decode, "older", OLDER).result()
    assert max(found.y, found.states, found.several) < LIMIT
    assert found.same and found.launches == 1
