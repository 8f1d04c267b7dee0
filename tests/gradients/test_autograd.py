"""Gradients through torch on the CPU: everything that autograd can ask of a call."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import smir
from smir.backends.numpy_reference import plan_interpreter
from smir.derivatives import adjoint_plan
from smir.ir.kernel import KernelPlan
from smir.passes.gradients.saved_values import KEPT, RECOMPUTED, UNUSED
from tests.gradients.calls import (
    EVERY_FORM,
    assert_same,
    compilation,
    compiled,
    gradients,
    leaves,
    loss,
    sampled,
    weighted,
)

torch = pytest.importorskip("torch")


# ---- what a training call runs ----------------------------------------------------------------------------------


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[KernelPlan, dict[str, Any], dict[str, Any]]]]:
    """Every run of a plan: the plan, the arrays that went in, the tensors that came out."""
    seen: list[tuple[KernelPlan, dict[str, Any], dict[str, Any]]] = []
    real = plan_interpreter.run_results

    def recording(plan: KernelPlan, arrays: Any, states: Any, **options: Any) -> Any:
        results, final = real(plan, arrays, states, **options)
        seen.append((plan, {**arrays, **states}, {**results, **final}))
        return results, final

    monkeypatch.setattr(plan_interpreter, "run_results", recording)
    yield seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_are_not_copied(runs: list[Any], dtype: Any) -> None:
    arrays, states = sampled("gated_delta_rule", dtype=dtype)
    y, _ = compiled("gated_delta_rule")(**arrays, state=states, return_state=True)
    cotangent = torch.ones_like(y)
    found = torch.autograd.grad(y, list(arrays.values()), cotangent)
    (_, given, results), (_, read, back) = runs
    address = {n: a.ctypes.data for n, a in given.items()}
    assert address == {n: t.data_ptr() for n, t in {**arrays, **states}.items()}
    assert results["y"].ctypes.data == y.data_ptr()
    assert read["d_y"].ctypes.data == cotangent.data_ptr()
    assert read["saved_S_before"].ctypes.data == results["S_before"].ctypes.data
    assert all(read[n].ctypes.data == address[n] for n in arrays if n in read)
    assert [back[f"d_{n}"].ctypes.data for n in arrays] == [g.data_ptr() for g in found]


WANTED = [{"v"}, {"q"}, {"beta"}, {"S"}, {"q", "k", "v"}, {"q", "k", "v", "g", "beta", "S"}]


@pytest.mark.parametrize("wanted", WANTED, ids=["-".join(sorted(w)) for w in WANTED])
def test_only_what_is_asked_for_is_computed(runs: list[Any], wanted: set[str]) -> None:
    mixer = compiled("gated_delta_rule")
    arrays, states = sampled("gated_delta_rule")
    everything = {**arrays, **states}
    expected = dict(zip(everything, gradients(mixer, arrays, states), strict=True))
    for name, tensor in everything.items():
        tensor.requires_grad_(name in wanted)
    runs.clear()
    found = gradients(mixer, arrays, states)
    assert_same(found, [expected[n] for n in everything if n in wanted])
    (forward, _, _), (backward, _, back) = runs
    assert set(back) == {f"d_{n}" for n in wanted}
    full = mixer.training_plan()
    counts = (len(backward.kernels), stores(backward)), (len(full.backward.kernels), stores(full.backward))
    assert counts[0] < counts[1] if len(wanted) < 6 else counts[0] == counts[1]
    assert {b.name for b in forward.saved} <= {b.name for b in full.forward.saved}


def stores(plan: KernelPlan) -> int:
    return sum(len(k.stores) + sum(len(loop.stores) + len(loop.final_stores) for loop in k.loops) for k in plan.kernels)


def test_kernel_counts_of_some_gradients() -> None:
    """Nothing but the walk backward, and what it reads, for values and initial states; queries need no walk at all."""
    mixer = compiled("gla")
    kernels = {n: [k.name for k in mixer.training_plan({n}).backward.kernels] for n in ("q", "v", "S", "g")}
    assert kernels["q"] == ["output"]
    assert kernels["S"] == ["prep", "carry_d_S"]
    assert kernels["v"] == ["prep", "carry_d_S", "output"]
    assert "carry_d_S" in kernels["g"] and "carry_S" not in kernels["g"]
    kept = set(mixer.training_plan({"v"}).kept)
    assert kept == {"shared_0", "prep_value_1"}, "the gradient of values needs scores and decays, and no state"


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_recording_nothing_is_kept(runs: list[Any], context: Callable[[], Any]) -> None:
    arrays, states = sampled("gated_delta_rule")
    recorded = compiled("gated_delta_rule")(**arrays, state=states)
    with context():
        y = compiled("gated_delta_rule")(**arrays, state=states)
    assert not y.requires_grad
    torch.testing.assert_close(y, recorded.detach(), rtol=1e-12, atol=1e-12)
    assert [bool(plan.saved) for plan, _, _ in runs] == [True, False]


def test_detached_arguments_are_not_recorded() -> None:
    arrays, _ = sampled("gla")
    assert not compiled("gla")(**{n: a.detach() for n, a in arrays.items()}).requires_grad
    assert compiled("gla")(**{n: a if n == "g" else a.detach() for n, a in arrays.items()}).requires_grad


# ---- what is kept -----------------------------------------------------------------------------------------------


def test_states_are_kept_and_what_only_made_them_is_not() -> None:
    plan = compiled("gated_delta_rule").training_plan()
    decided = {v.name: v.decision for v in plan.values}
    # every block of a walk would make again what it walks with
    walked = ("prep_value_0", "prep_value_2", "prep_value_3", "walked_0", "walked_1")
    kept = dict.fromkeys(("inner_0", "S_new", "S_before", *walked), KEPT)
    assert decided == {**kept, "prep_value_1": UNUSED}
    assert {b.name for b in plan.forward.saved} == set(plan.kept) == set(kept)
    assert {b.name for b in plan.backward.given} == set(plan.kept.values())
    assert all(plan.forward.buffer(n).dtype == plan.backward.buffer(g).dtype for n, g in plan.kept.items())
    again = adjoint_plan(compilation("gated_delta_rule"), "chunked", frozenset({"q", "k", "v"}))
    assert "carry_S" in {k.name for k in again.kernels}
    assert "carry_S" not in {k.name for k in plan.backward.kernels}


def test_what_is_cheap_to_make_is_made_again() -> None:
    values = compiled("gsa").training_plan().values
    assert {v.name for v in values if v.decision == RECOMPUTED} == {"prep_value_2"}
    assert all((v.keep <= v.recompute) == (v.decision == KEPT) for v in values if v.decision != UNUSED)


def test_explain_prints_the_decisions() -> None:
    explained = compiled("gated_delta_rule").explain()
    assert [v["decision"] for v in explained.to_json()["training"]] == [
        "keeps", "keeps", "doesn't need", *["keeps"] * 6]  # fmt: skip
    assert "recomputes prep_value_2 (M/C elements per token)" in str(compiled("gsa").explain())
    assert "keeps S_before (K*V/C elements per token): 65536 bytes a chunk to keep" in str(explained)
    assert "nothing is kept" in str(compiled("gated_delta_rule", "step").explain())


# ---- what autograd can ask --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(runs: list[Any], reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    arrays, _ = sampled("gated_delta_rule")
    mixer = compiled("gated_delta_rule")
    expected = torch.autograd.grad(weighted(mixer(*arrays.values())), list(arrays.values()))
    runs.clear()
    weighted(checkpoint(mixer, *arrays.values(), use_reentrant=reentrant)).backward()
    assert_same([a.grad for a in arrays.values()], list(expected))
    assert len(runs) == 3


def test_a_graph_can_be_used_twice() -> None:
    arrays, states = sampled("rwkv6")
    tensors = [*arrays.values(), *states.values()]
    total = loss(compiled("rwkv6"), arrays, states)
    first = torch.autograd.grad(total, tensors, retain_graph=True)
    second = torch.autograd.grad(total, tensors)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(total, tensors)


def test_one_tensor_may_stand_for_two_arguments() -> None:
    arrays, _ = sampled("gla")
    shared = arrays["q"]
    apart = {**arrays, "k": shared.detach().clone().requires_grad_()}
    d_q, d_k = torch.autograd.grad(loss(compiled("gla"), apart), [apart["q"], apart["k"]])
    (both,) = torch.autograd.grad(loss(compiled("gla"), {**arrays, "k": shared}), [shared])
    assert_same([both], [d_q + d_k])


def test_a_tensor_changed_in_place_is_noticed() -> None:
    arrays, _ = sampled("gla")
    held = {n: a * 1 for n, a in arrays.items()}
    total = loss(compiled("gla"), held)
    held["v"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


@pytest.mark.parametrize("part", ["output", "states", "nothing"])
def test_missing_cotangents_are_zero(part: str) -> None:
    arrays, states = sampled("gated_rfa")
    tensors = [*arrays.values(), *states.values()]
    y, final = compiled("gated_rfa")(**arrays, state=states, return_state=True)
    used = {"output": [y], "states": list(final.values()), "nothing": []}[part]
    rest = [r for r in (y, *final.values()) if all(r is not u for u in used)]
    zero = 0 * weighted(*rest)
    expected = torch.autograd.grad(weighted(*used) + zero, tensors, retain_graph=True)
    if part == "nothing":
        assert all(not g.any() for g in expected)
        return
    found = torch.autograd.grad(weighted(*used), tensors, allow_unused=True)
    assert_same([torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)], list(expected))


def test_states_connect_the_parts_of_a_sequence() -> None:
    arrays, _ = sampled("gated_delta_rule")
    mixer = compiled("gated_delta_rule")
    y, final = mixer(**{n: a[:, :9] for n, a in arrays.items()}, return_state=True)
    rest, end = mixer(**{n: a[:, 9:] for n, a in arrays.items()}, state=final, return_state=True)
    found = torch.autograd.grad(weighted(torch.cat([y, rest], 1), end["S"]), list(arrays.values()))
    assert_same(list(found), gradients(mixer, arrays))


def test_a_call_without_heads() -> None:
    arrays, states = sampled("retnet", H=1)
    expected = gradients(compiled("retnet"), arrays, states)
    bare = {n: a.detach().squeeze(0 if n == "gamma" else 2).requires_grad_() for n, a in arrays.items()}
    plain = {n: s.detach().squeeze(1).requires_grad_() for n, s in states.items()}
    found = gradients(compiled("retnet"), bare, plain)
    assert [g.shape for g in found] == [t.shape for t in (*bare.values(), *plain.values())]
    assert_same([g.flatten() for g in found], [g.flatten() for g in expected])


def test_other_memory_orders() -> None:
    arrays, _ = sampled("gla")
    expected = gradients(compiled("gla"), arrays)
    turned = {n: a.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for n, a in arrays.items()}
    assert not turned["q"].is_contiguous()
    assert_same(gradients(compiled("gla"), turned), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 3e-2), ("float16", 4e-3)])
def test_gradients_have_the_types_of_their_arguments(dtype: str, tolerance: float) -> None:
    exact, _ = sampled("gated_delta_rule")
    expected = gradients(compiled("gated_delta_rule"), exact)
    short = {n: a.detach().to(torch.float32 if n == "g" else getattr(torch, dtype)) for n, a in exact.items()}
    arrays = {n: a.requires_grad_() for n, a in short.items()}
    y = compiled("gated_delta_rule")(**arrays)
    assert y.dtype == getattr(torch, dtype)
    found = gradients(compiled("gated_delta_rule"), arrays)
    assert [g.dtype for g in found] == [a.dtype for a in arrays.values()]
    for g, truth in zip(found, expected, strict=True):
        assert (g.double() - truth).abs().max() <= tolerance * truth.abs().max()


def test_an_argument_without_influence_has_the_gradient_zero() -> None:
    text = "mixer m; input k: K; input v: V; state S: K, V; S[t] = k[t] @ v[t].T; y[t] = S[t].T @ k[t]"
    state = torch.ones(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    mixer = smir.compile(text, form="chunked")
    k, v = (torch.ones(1, 4, 1, size, dtype=torch.float64) for size in (2, 3))
    y = mixer(k, v, state={"S": state})
    (found,) = torch.autograd.grad(y.sum(), [state])
    assert found.shape == state.shape and not found.any()


def test_numbers_may_stand_for_parameters() -> None:
    arrays, _ = sampled("retnet", H=1)
    bare = {n: a.detach().squeeze(2).requires_grad_() for n, a in arrays.items() if n != "gamma"}
    assert all(g.any() for g in gradients(compiled("retnet"), {**bare, "gamma": torch.tensor(0.9)}))
    y = compiled("retnet")(**bare, gamma=0.9)
    assert all(g.any() for g in torch.autograd.grad(y.sum(), list(bare.values())))


def test_a_non_linear_mixer_is_trained_by_backpropagation_through_time() -> None:
    text = "mixer m; input x: D; state h: D; h[t] = tanh(h[t-1] + x[t]); y[t] = h[t]"
    mixer = smir.compile(text)
    assert mixer.forms == ("step",)
    x = torch.randn(2, 6, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(mixer, (x,))


# ---- refused ----------------------------------------------------------------------------------------------------


def test_a_mixer_that_only_runs_as_written_has_no_gradients() -> None:
    mixer = smir.compile(
        "mixer m\n  input q, k: K;  input v: V\n  y = softmax(q @ k.T, causal) @ softmax(q @ k.T, causal) @ v"
    )
    assert mixer.forms == ("direct",)
    arrays = leaves(smir.sample(mixer.spec))
    with pytest.raises(smir.FormError, match="no gradients"):
        mixer(**arrays)
    assert "no gradients" in str(mixer.explain())
    with torch.no_grad():
        assert mixer(**arrays).shape[1] == 37


def test_gradients_of_unknown_names_are_refused() -> None:
    with pytest.raises(smir.ArgumentError, match="no argument 'w'"):
        compiled("gla").training_plan({"w"})


# ---- verify and the command line --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_FORM)
def test_verify_compares_gradients(name: str) -> None:
    report = smir.compile(name).verify(gradients=True, T=21, chunk=8)
    assert report.passed, str(report)
    compared = {(r.form, r.dtype, r.result) for r in report.rows if r.result.startswith("d_")}
    spec = compiled(name).spec
    assert len(compared) == 3 * 2 * (len(spec.declarations) + len(spec.states))


def test_verify_catches_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from smir import verify

    real = verify.run_results

    def wrong(plan: KernelPlan, *args: Any, **options: Any) -> Any:
        results, final = real(plan, *args, **options)
        return {n: 1.001 * a if n == "d_k" and plan.form == "chunked" else a for n, a in results.items()}, final

    monkeypatch.setattr(verify, "run_results", wrong)
    report = smir.compile("gla").verify(gradients=True, T=21)
    assert {(r.form, r.result) for r in report.rows if not r.passed} == {("chunked", "d_k")}


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from smir.cli import app

    def run(*arguments: str) -> str:
        assert not app([*arguments], standalone_mode=False)
        return capsys.readouterr().out

    assert "carry_d_S" in run("compile", "gla", "--form", "chunked", "--gradients")
    printed = run("compile", "gla", "--form", "chunked", "--gradients", "--print-ir-after-all")
    stages = [line.removeprefix("// after ") for line in printed.splitlines() if line.startswith("// after")]
    assert stages[-5:] == ["differentiate", "simplify adjoint", "partition adjoint",
                           "save values (forward)", "save values (backward)"]  # fmt: skip
    assert "d_q" in run("verify", "scalar_decay", "--gradients", "-T", "9")
