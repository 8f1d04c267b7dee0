"""How sums over levels are printed: joint products of several queries with several keys, and exact sums of decays."""

import pytest

import smir
from smir.backends.triton_gpu.emit import emit
from smir.derivatives import training_plan
from smir.ir.tile_program import CHUNKED

# The log of its decay is computed, so that it has more digits than an input in 16 bits.
COMPUTED = """
mixer computed
  input q, k: K
  input v: V
  input g: K
  state S: K, V
  S[t] = diag(exp(-softplus(g[t]))) @ S[t-1] + k[t] @ v[t].T
  y[t] = S[t].T @ q[t]
"""


def backward(mixer: smir.CompiledMixer) -> str:
    """The kernel of the gradients on the levels, without its comments."""
    done = mixer.compilation
    plan = training_plan(done, CHUNKED, frozenset(d.name for d in done.spec.declarations)).backward
    text = next(text for text in emit(plan).values() if "same_pair(" in text and "def output(" in text)
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("name", ["rwkv7", "dplr"])
def test_two_queries_and_two_keys_make_two_mixed_tiles(name: str) -> None:
    text = backward(smir.compile(name))
    assert text.count("pick_rows(") == 2
    assert text.count("same_pair(") == 4 and text.count("pair_distance(") == 1


def test_one_key_for_two_queries_stays_with_a_joint_product_each() -> None:
    text = backward(smir.compile("kda"))
    assert text.count("pick_rows(") == 2 and text.count("same_pair(") == 2


def test_what_an_input_holds_in_16_bits_is_summed_in_one_part() -> None:
    text = backward(smir.compile("gla"))
    line = "parts_of_g: tl.constexpr = 1 if PARTS == 2 and g_ptr.dtype.element_ty == tl.bfloat16 else PARTS"
    assert line in text and "PARTS=parts_of_g" in text


def test_what_is_computed_keeps_its_digits() -> None:
    text = backward(smir.compile(COMPUTED))
    assert "parts_of" not in text and "PARTS=PARTS" in text


def test_running_sums_of_gradients_are_rounded_as_products_are() -> None:
    """Those of exponents beside them are not."""
    text = backward(smir.compile("gla"))
    assert text.count("PARTS=rounded_parts") == 2 and "rounded_parts: tl.constexpr = 1 if PARTS == 2 else PARTS" in text
