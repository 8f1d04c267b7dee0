"""Components, directions and orders of states; sizes solved from shapes."""

import pytest

from smir.errors import SpecCycleError
from smir.ir.dependence import Component, components
from smir.ir.dims import ONE, Dim
from smir.ir.expr import const, input_at, state_at
from smir.ir.graph import Node
from smir.ir.mixer import Mixer, State
from smir.ir.sizes import solve_dim, solve_sizes
from tests.oracle.mixers import add, inputs


def at(name: str, offset: int = 0) -> Node:
    return state_at(name, ONE, ONE, offset)


def order(output: Node, **updates: Node) -> list[tuple[tuple[str, ...], str]]:
    states = tuple(State(name, (), 0.0, update) for name, update in updates.items())
    found = components(Mixer("m", inputs(x=()), states, output, ()))
    assert all(isinstance(c, Component) for c in found)
    return [(c.states, c.direction) for c in found]


def test_mutual_states_form_one_component_in_step_order() -> None:
    found = order(at("a"), a=add(at("b"), const(1.0)), b=at("a", -1), c=add(at("a"), at("c", 1)))
    assert found == [(("b", "a"), "forward"), (("c",), "backward")]


@pytest.mark.parametrize(
    ("offsets", "direction"),
    [((0,), "forward"), ((-1,), "forward"), ((1,), "backward"), ((0, 2), "backward"), ((-1, 1), "forward")],
)
def test_a_state_that_never_reads_itself_runs_the_way_it_is_read(offsets, direction) -> None:
    output = const(0.0)
    for n in offsets:
        output = add(output, at("p", n))
    assert order(output, p=input_at("x", ONE)) == [(("p",), direction)]


def test_a_knot_through_two_states_is_refused() -> None:
    with pytest.raises(SpecCycleError, match="states `a` and `b` would have to run forward and backward"):
        order(at("a"), a=at("b", -1), b=at("a", 1))
    with pytest.raises(SpecCycleError, match="states `a` and `b`: the value at step t is defined by itself"):
        order(at("a"), a=at("b"), b=at("a"))


@pytest.mark.parametrize(
    ("dim", "size", "known", "expected"),
    [
        ("K", 4, {}, ("K", 4)),
        ("K/2", 4, {}, ("K", 8)),
        ("2*K+1", 9, {}, ("K", 4)),
        ("2*K+1", 8, {}, None),
        ("K*V", 12, {"V": 3}, ("K", 4)),
        ("K*V", 12, {}, None),
        ("K*K", 16, {}, None),
        ("K", 4, {"K": 4}, None),
        ("16", 16, {}, None),
        ("K-V", 2, {"V": 3}, ("K", 5)),
        ("V-K", 5, {"V": 3}, None),
    ],
)
def test_one_open_name_is_solved(dim, size, known, expected) -> None:
    assert solve_dim(Dim.parse(dim), size, known) == expected


def test_names_are_solved_through_each_other() -> None:
    pairs = [(Dim.parse("K*V"), 12), (Dim.parse("V+M"), 5), (Dim.parse("K/2"), 2)]
    assert solve_sizes(pairs, {}) == {"K": 4, "V": 3, "M": 2}
