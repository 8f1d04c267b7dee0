"""Kernels over pairs of chunks: programs of two chunks, and loops cut where the edge of a mask begins."""

import pytest

import smir
from smir.backends.triton_gpu.emit import emit
from smir.backends.triton_gpu.spans import spanned_pairs, spanning
from smir.derivatives import training_plan
from tests.passes.pair_specs import PAIR_SPECS, text_of
from tests.triton.conftest import Submit
from tests.triton.spans import compare_spans
from tests.triton.test_interpreter import FACTOR
from tests.triton.work import Case

WIDE_WINDOW = """mixer m
  const w = 50
  input q, k: K
  input v: V
  y = softmax(q @ k.T, window(w)) @ v
"""
HERE = ["forgetting_attention"]


def source(name: str) -> str:
    return text_of(name) if name in PAIR_SPECS else WIDE_WINDOW if name == "wide window" else name


@pytest.mark.parametrize(
    "name",
    [n if n in HERE else pytest.param(n, marks=pytest.mark.full)
     for n in (*HERE, "wide window", "softmax_causal", "softmax_alibi", *PAIR_SPECS)],
)  # fmt: skip
def test_programs_of_two_chunks(interpreted: Submit, name: str) -> None:
    errors = interpreted(compare_spans, source(name), Case(T=85, H=1)).result()
    assert errors and max(errors.values()) < FACTOR, errors


@pytest.mark.parametrize("name", ["softmax_causal", "forgetting_attention", "softmax_full"])
def test_all_large_kernels_take_spans(name: str) -> None:
    done = smir.compile(name).compilation
    plans = training_plan(done, "quadratic", frozenset(d.name for d in done.spec.declarations))
    kernels = {k.name: spanning(p, k) is not None for p in (plans.forward, plans.backward) for k in p.kernels}
    large = {"output", "rows", "columns"}
    assert {n for n, spans in kernels.items() if spans} == large
    assert bool(spanned_pairs(plans.backward)) == (name == "forgetting_attention")


def test_chunks_inside_a_window_are_not_compared() -> None:
    """One loop over whole chunks, one over those at the window's edge."""
    text = emit(smir.compile(WIDE_WINDOW).compilation.plans["quadratic"])["output.py"]
    near, far = text.split("for visited in range(whole):")[1].split("for visited in range(whole, farthest):")
    assert "whole = tl.minimum(farthest, tl.maximum(50 - OWN, 0) // CHUNK)" in text
    assert "tl.where(" not in near and "< 50.0" in far


def test_a_program_begins_with_the_longest_work() -> None:
    """Of a causal mask the last rows meet most chunks, and the first columns."""
    done = smir.compile("softmax_causal").compilation
    files = emit(training_plan(done, "quadratic", frozenset("qkv")).backward)
    assert " - 1 - program % " in files["rows.py"] and " - 1 - program % " not in files["columns.py"]
