"""Only what is asked for is computed: results, scans and kernels of backward passes by what they have to find."""

import itertools

import numpy as np
import pytest

import smir
from smir.ir.kernel import KernelPlan
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile_program import CHUNKED, QUADRATIC, STEP
from smir.ir.verifier import verify
from smir.sampling import sample_states
from tests.gradients.adjoints import Gradients, Point, library, random_cotangents, state_key

ROWS = ["gla", "rwkv6", "gated_delta_rule", "dplr", "lion_d_norm", "bidir_half"]


def point(made: Gradients) -> Point:
    arrays = smir.sample(made.mixer, 2, 7, 2)
    return random_cotangents(made.mixer, arrays, sample_states(made.mixer, 2, 2, seed=1), 2)


def results(plan: KernelPlan) -> set[str]:
    return {r.tensor for r in plan.results}


def finals(plan: KernelPlan) -> set[str]:
    """The carried values that are handed out; sums of a parameter's gradient over the sequence are results."""
    return {s.target for k in plan.kernels for loop in k.loops for s in loop.final_stores} - plan.totals


def carried(plan: KernelPlan) -> list[str]:
    """What kernels take from chunk to chunk, in the order of launches."""
    return [c.name for k in plan.kernels for loop in k.loops for c in loop.scan.carries]


@pytest.mark.parametrize("form", [STEP, CHUNKED, QUADRATIC])
@pytest.mark.parametrize("name", ROWS)
def test_each_gradient_alone_is_the_same_as_among_all(name: str, form: str) -> None:
    made = library(name)
    at = point(made)
    everything = made(form, 4, at)
    states = {s.name for s in made.mixer.states}
    for wanted in made.names:
        plan = made.plan(form, (wanted,))
        verify(plan)
        assert results(plan) | finals(plan) == {f"d_{wanted}"}
        assert bool(finals(plan)) == (wanted in states)
        found = made(form, 4, at, (wanted,))
        key = state_key(wanted) if wanted in states else wanted
        assert set(found) == {key}
        np.testing.assert_allclose(found[key], everything[key], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", [STEP, CHUNKED])
def test_every_subset_hands_out_just_that(form: str) -> None:
    made = library("gla")
    for count in range(1, len(made.names) + 1):
        for wanted in itertools.combinations(made.names, count):
            plan = made.plan(form, wanted)
            assert results(plan) | finals(plan) == {f"d_{n}" for n in wanted}


def test_a_query_needs_the_states_but_nothing_that_runs_back() -> None:
    assert carried(library("gla").plan(CHUNKED, ("q",))) == ["S"]


def test_a_value_needs_the_way_back_but_not_the_states() -> None:
    for wanted in (("v",), ("k",), ("k", "v"), ("S",)):
        assert carried(library("gla").plan(CHUNKED, wanted)) == ["d_S"], wanted


def test_a_decay_needs_both_ways() -> None:
    assert sorted(carried(library("gla").plan(CHUNKED, ("g",)))) == ["S", "d_S"]


def test_the_way_back_starts_after_the_states_where_it_needs_them() -> None:
    """A state that is written with what it reads of itself: the gradient of a key needs the state before."""
    made = library("gated_delta_rule")
    assert set(carried(made.plan(CHUNKED, ("k",)))) == {"S", "d_S"}
    assert carried(made.plan(CHUNKED, ("v",))) == ["d_S"]


def test_inputs_that_no_wanted_gradient_needs_are_not_loaded() -> None:
    made = library("gla")

    def loads(*wanted: str) -> set[str]:
        return {leaf.name for leaf in made.program(CHUNKED, wanted).leaves}

    assert loads("q") == {"k", "v", "g", "d_y"}
    assert loads("v") == {"q", "k", "g", "d_y"}
    assert loads("k") == {"q", "v", "g", "d_y"}
    assert loads("S") == {"q", "g", "d_y"}


@pytest.mark.parametrize("form", [STEP, CHUNKED, QUADRATIC])
@pytest.mark.parametrize("name", ROWS)
def test_backward_passes_are_legal_ir_and_survive_their_text(name: str, form: str) -> None:
    for ir in (library(name).program(form), library(name).plan(form)):
        verify(ir)
        assert parse_ir(print_ir(ir)) == ir
