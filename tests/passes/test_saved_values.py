"""Plans that hand values to each other: their text, their rules, and that nothing is read that nobody kept."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.derivatives import training_plan
from smir.errors import IRError
from smir.ir.graph import walk
from smir.ir.kernel import GIVEN, GRID, OWN, SAVED, KernelPlan
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile import CHUNK
from smir.ir.verifier import verify
from smir.passes.gradients.saved_values import KEPT, TrainingPlan


def training() -> TrainingPlan:
    return smir.compile("gated_delta_rule").training_plan(form="chunked")


@pytest.mark.parametrize("name", smir.library_names())
def test_both_plans_have_a_text(name: str) -> None:
    plan = smir.compile(name).training_plan()
    for side in (plan.forward, plan.backward):
        verify(side)
        assert parse_ir(print_ir(side)) == side


def test_the_owners_stand_in_the_text() -> None:
    plan = training()
    assert "buffer S_before : K x V chunk product saved" in print_ir(plan.forward)
    assert "buffer saved_S_before : K x V chunk product given" in print_ir(plan.backward)
    assert "buffer d_S_new : @C x V chunk product own" in print_ir(plan.backward)


@pytest.mark.parametrize("name", ["delta_rule", "gated_delta_rule"])
def test_a_walk_back_through_an_erase_starts_from_what_is_kept(name: str) -> None:
    """Scores, the inverse, and the erase's coefficient: its blocks would make each of them again. Operands that all
    blocks have in common are loaded, and rows are scaled where the blocks are."""
    done = smir.compile(name).compilation
    plan = training_plan(done, "chunked", frozenset(d.name for d in done.spec.declarations))
    kept = [(v.rows, v.cols) for v in plan.values if v.decision == KEPT]
    assert kept.count((CHUNK, CHUNK)) == 2 and (CHUNK, "K") in kept
    first = plan.backward.kernels[0]
    assert first.sequential and first.role("V") == GRID
    products = [n for n in walk(first.roots()) if n.op == "dot"]
    lefts = [n.args[0].args[0] if n.args[0].op == "transpose" else n.args[0] for n in products]
    assert len(products) == 4 and all(n.op == "load" for n in lefts)


def given_twice(plan: TrainingPlan) -> KernelPlan:
    first = plan.backward.given[0]
    renamed = tuple(replace(b, name="q") if b is first else b for b in plan.backward.buffers)
    return replace(plan.backward, buffers=renamed)


def not_given(plan: TrainingPlan) -> KernelPlan:
    return replace(plan.backward, buffers=tuple(replace(b, owner=OWN) for b in plan.backward.buffers))


def never_stored(plan: TrainingPlan) -> KernelPlan:
    buffers = tuple(replace(b, owner=SAVED if b.owner == GIVEN else b.owner) for b in plan.backward.buffers)
    return replace(plan.backward, buffers=buffers)


def unknown_owner(plan: TrainingPlan) -> KernelPlan:
    return replace(plan.forward, buffers=tuple(replace(b, owner="lent") for b in plan.forward.buffers))


BROKEN = [
    (given_twice, "name of an input"),
    (not_given, "written before"),
    (never_stored, "nothing stores|written before"),
    (unknown_owner, "lent"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN, ids=[b.__name__ for b, _ in BROKEN])
def test_the_verifier_refuses(broken: Callable[[TrainingPlan], KernelPlan], message: str) -> None:
    with pytest.raises(IRError, match=message):
        verify(broken(training()))


def test_what_is_kept_survives_threads_over_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread writes its heads of a kept value into the one array that is handed out."""
    from smir.backends.numpy_reference import plan_interpreter

    mixer = smir.compile("gated_delta_rule")
    arrays = smir.sample(mixer.spec, B=2, T=40, H=4)
    plan = training()
    expected, _ = run_results(plan.forward, arrays, chunk=16)
    monkeypatch.setattr(plan_interpreter, "THREADED_ELEMENTS", 1)
    monkeypatch.setattr(plan_interpreter.os, "cpu_count", lambda: 4)
    found, _ = run_results(plan.forward, arrays, chunk=16)
    assert set(found) == {"y", *plan.kept}
    for name in plan.kept:
        assert found[name].shape[:3] == (2, 4, 3)
        np.testing.assert_array_equal(found[name], expected[name])
