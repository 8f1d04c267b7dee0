"""Products with parameters in exponents: which are found, and what float64 does for them."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.backends.numpy_reference.tile_ops import TILE_OPS
from smir.derivatives import training_plan
from smir.ir.graph import Node, walk
from smir.ir.kernel import KernelPlan
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile import PARAM
from smir.ir.verifier import verify
from smir.passes.kernels.wide_exponents import with_wide_exponents
from smir.sampling import sample

FEATURES = """mixer features
  input x: K
  input v: M
  param W: M, K
  state S: M
  S[t] = {decay} * S[t-1] + {feature} * v[t]
  y[t] = S[t]
"""


def products(plan: KernelPlan) -> dict[Node, bool]:
    """The matrix products with a parameter, and whether their sides are widened."""
    found: dict[Node, bool] = {}
    for n in (n for k in plan.kernels for n in walk(k.roots()) if n.op == "dot"):
        below = list(walk(n.args))
        if any(x.op == "load" and x["kind"] == PARAM for x in below) and not any(x.op == "dot" for x in below):
            found[n] = all(a.op == "widen" for a in n.args)
    return found


@pytest.mark.parametrize(("decay", "feature", "expected"), [
    ("1", "exp(W @ x[t])", True),
    ("1", "exp(W @ x[t] / 2 - sum(x[t] * x[t], K))", True),
    ("exp(min(W @ x[t], 0))", "1", True),
    ("1", "W @ x[t]", False),  # no exponent
    ("1", "sigmoid(W @ x[t])", False),  # has no large values
])  # fmt: skip
def test_which_products_are_wide(decay: str, feature: str, expected: bool) -> None:
    plan = smir.compile(FEATURES.format(decay=decay, feature=feature)).compilation.plans["scan"]
    assert set(products(plan).values()) == {expected}


def test_both_plans_of_a_training_step_and_their_texts() -> None:
    training = training_plan(smir.compile("performer").compilation, "chunked", frozenset("qkvW"))
    for plan in (training.forward, training.backward):
        assert any(products(plan).values())
        verify(plan)
        assert parse_ir(print_ir(plan)) == plan


@pytest.mark.parametrize("name", ["gla", "softmax_causal", "mlstm", "window_ffn"])
def test_other_plans_are_left(name: str) -> None:
    assert all(with_wide_exponents(plan) is plan for plan in smir.compile(name).compilation.plans.values())


def test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of 128 channels, as large as the paper has them, in float32 and against float64: wide as in kernels."""
    mixer = smir.compile("performer")
    plan = mixer.compilation.plans["chunked"]
    arrays = sample(mixer.spec, 1, 128, 1, {"K": 128, "M": 64, "V": 16}, seed=3)
    scales = {"q": 128**0.25, "k": 128**0.25, "W": (64 * 128) ** 0.5, "v": 1.0}
    given = {n: (x * scales[n]).astype(np.float32) for n, x in arrays.items()}

    def result(kind: type) -> np.ndarray:
        monkeypatch.setitem(TILE_OPS, "narrow", lambda x: np.asarray(x, kind))
        return run_results(plan, {n: x.astype(kind) for n, x in given.items()}, chunk=32)[0]["y"].astype(float)

    truth, plain = result(np.float64), result(np.float32)
    monkeypatch.setitem(TILE_OPS, "widen", lambda x: np.asarray(x, np.float64))
    wide = result(np.float32)
    assert np.linalg.norm(wide - truth) < np.linalg.norm(plain - truth) / 2
