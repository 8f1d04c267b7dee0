"""Divisors that may cancel: which are found, and what is kept in float64 on the way to them."""

from collections.abc import Iterator

import pytest

import smir
from smir.derivatives import training_plan
from smir.ir.graph import Node, walk
from smir.ir.kernel import WIDE, KernelPlan
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile import ONE
from smir.ir.verifier import verify
from smir.passes.kernels.wide_divisors import with_wide_divisors

SMALL = """mixer small
  input q, k: K
  input v: V
  state S: K, V
  state z: K
  S[t] = S[t-1] + {key} @ v[t].T
  z[t] = z[t-1] + {key}
  y[t] = S[t].T @ q[t] / {divisor}
"""
FORMS = ("step", "chunked")


def plans(spec: str) -> tuple[KernelPlan, ...]:
    return tuple(smir.compile(spec).compilation.plans.values())


def is_marked(plan: KernelPlan) -> bool:
    """Whether something is made wide, or was by another plan."""
    return any(n.op in ("widen", "narrow") for k in plan.kernels for n in walk(k.roots()))


@pytest.mark.parametrize(("key", "divisor", "expected"), [
    ("k[t]", "max(abs(z[t].T @ q[t]), 1)", True),
    ("k[t]", "(1 + z[t].T @ q[t])", True),
    ("k[t]", "(1 + exp(z[t].T @ q[t]))", False),  # an exponential is positive
    ("exp(k[t])", "(z[t].T @ exp(q[t]))", False),  # terms of one sign
    ("k[t]", "sqrt(1 + k[t].T @ k[t] + exp(z[t].T @ q[t]))", False),  # squares
])  # fmt: skip
def test_which_divisors_may_cancel(key: str, divisor: str, expected: bool) -> None:
    assert {is_marked(p) for p in plans(SMALL.format(key=key, divisor=divisor))} == {expected}


@pytest.mark.parametrize(
    ("name", "expected"), [("mlstm", True), ("gated_rfa", True), ("rwkv4", False), ("s4d", False), ("gla", False)]
)
def test_library(name: str, expected: bool) -> None:
    assert {is_marked(p) for p in plans(name)} == {expected}


def mlstm(form: str) -> Iterator[KernelPlan]:
    done = smir.compile("mlstm").compilation
    training = training_plan(done, form, frozenset("qkvif"))
    yield from (done.plans[form], training.forward, training.backward)


@pytest.mark.parametrize("form", FORMS)
def test_marked_plans_are_whole(form: str) -> None:
    for plan in mlstm(form):
        verify(plan)
        assert is_marked(plan) and parse_ir(print_ir(plan)) == plan


@pytest.mark.parametrize("form", FORMS)
def test_what_is_kept_has_one_type(form: str) -> None:
    training = training_plan(smir.compile("mlstm").compilation, form, frozenset("qkvif"))
    for forward, backward in training.kept.items():
        assert training.forward.buffer(forward).dtype == training.backward.buffer(backward).dtype
    assert any(training.forward.buffer(n).dtype == WIDE for n in training.kept)


@pytest.mark.parametrize("form", FORMS)
def test_products_take_nothing_wide(form: str) -> None:
    """Nor is a matrix that is carried, which stays in registers, wide."""
    for plan in mlstm(form):
        wide = {b.name for b in plan.buffers if b.dtype == WIDE}
        assert all(ONE in (b.rows, b.cols) for b in plan.buffers if b.name in wide)
        for kernel in plan.kernels:
            found: set[Node] = set()
            for n in walk(kernel.roots()):
                is_product = n.op == "dot" and ONE not in (n.type.rows, n.type.cols)
                assert not is_product or found.isdisjoint(n.args)
                is_wide = n.op == "widen" or (n.op == "load" and n["name"] in wide) or not found.isdisjoint(n.args)
                found |= {n} if is_wide and n.op != "narrow" and not is_product else set()


def test_nothing_changes_without_such_a_divisor() -> None:
    assert all(with_wide_divisors(p) is p for p in plans("gla"))
