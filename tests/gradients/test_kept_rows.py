"""What normalised mixers keep and put together, so that their gradients don't make the forward pass again."""

from collections.abc import Iterator

import pytest

import smir
from smir.derivatives import gradients, training_plan
from smir.ir import tile
from smir.ir.graph import Node, walk
from smir.ir.kernel import KernelPlan
from smir.ir.tile import CHUNK, ONE
from smir.passes.gradients.shares import of_exponents, shared_exponents
from smir.passes.gradients.vjp import vjp

p = tile.pointwise


def training(name: str) -> tuple[KernelPlan, KernelPlan, frozenset[str]]:
    done = smir.compile(name).compilation
    plan = training_plan(done, "chunked", frozenset(d.name for d in done.spec.declarations))
    return plan.forward, plan.backward, frozenset(plan.kept)


def nodes(plan: KernelPlan) -> Iterator[Node]:
    return walk(n for k in plan.kernels for n in k.roots())


def test_a_quotient_is_kept_with_its_divisor() -> None:
    """The gradient of the normaliser reads the quotient: no backward kernel multiplies scores with values."""
    forward, backward, kept = training("mlstm")
    assert "kept_y" in kept and forward.buffer("kept_y").dtype == "product"
    v = next(n for n in nodes(backward) if n.op == "load" and n["name"] == "v")
    assert not [n for n in nodes(backward) if n.op == "dot" and n.args[1] is v]


def test_columns_are_made_once() -> None:
    """A scan along a chunk, which a running maximum is, stays in the kernels before the walks."""
    _, backward, _ = training("mlstm")
    assert not [n for n in nodes(backward) if n.op in ("scan", "shift", "logaddexp")]


@pytest.mark.parametrize("name", ["mlstm", "performer", "gsa"])
def test_rows_are_masked_in_columns(name: str) -> None:
    done = smir.compile(name).compilation
    adjoint = gradients(done, "chunked", frozenset(d.name for d in done.spec.declarations)).adjoint
    assert adjoint is not None
    masked = [n for n in adjoint.nodes() if n.op == "valid_rows" and n.type.cols not in (ONE, CHUNK)]
    assert all(n.args[0].op != "mul" for n in masked)


def test_the_adjoint_of_a_softmax_starts_from_its_shares() -> None:
    """Shares and their adjoint are made once each: neither maxima nor exponentials of sums over levels come back."""
    _, backward, kept = training("gsa")
    assert "shared_rows_0" in kept
    sums = {n for n in nodes(backward) if n.op == "level_sum"}
    assert not [n for n in nodes(backward) if n.op == "reduce_max"]
    assert not [n for n in nodes(backward) if n.op == "exp" and any(s in sums for s in walk(n.args))]


def test_shares() -> None:
    x, g = tile.token("x", CHUNK, "V"), tile.token("g", CHUNK, "V")
    exponentials = p("exp", p("sub", x, tile.reduce_max(x, 1)))
    total = tile.reduce_sum(exponentials, 1)
    shares = p("div", exponentials, p("where", p("eq", total, tile.const(0.0)), tile.const(1.0), total))
    assert shared_exponents(shares) is x and shared_exponents(p("div", exponentials, total)) is x
    assert shared_exponents(p("div", exponentials, tile.reduce_sum(p("exp", x), 1))) is None
    assert shared_exponents(p("div", x, total)) is None
    fresh = set(walk([of_exponents(shares, g)])) - set(walk([shares, g]))
    assert {n.op for n in fresh} == {"mul", "sub", "sum", "valid_rows"}


def test_a_number_below_a_vector() -> None:
    """The rule divides once per row, and gives nothing where the divisor is zero."""
    a, b, g = tile.token("a", CHUNK, "V"), tile.token("b", CHUNK, ONE), tile.token("g", CHUNK, "V")
    above, below = vjp(p("div", a, b), g)
    assert above is not None and below is not None
    assert all(n.type.cols == ONE for n in walk([above]) if n.op == "div")
    assert not [n for n in walk([below]) if n.op == "div" and n.type.cols != ONE and n is not p("div", a, b)]


def test_gates_count_beside_the_key() -> None:
    """No product reads values that a gate was multiplied with."""
    program = smir.compile("mlstm").compilation.tiles["chunked"]
    v = next(n for n in program.nodes() if n.op == "load" and n["name"] == "v")
    assert {n.op for n in program.nodes() if v in n.args} == {"dot"}
