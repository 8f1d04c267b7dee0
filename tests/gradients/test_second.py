"""Second derivatives on the CPU: gradgradcheck, what a second backward pass runs, a penalty on a layer's gradients."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference import plan_interpreter
from smir.compiled import CompiledMixer
from smir.ir.kernel import KernelPlan
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.sampling import dimension_names, sample_states
from smir.torch_side.second_derivatives import second_plan
from tests.gradients.calls import assert_same, compilation, compiled, leaves, multiplied_out, sampled, weighted

torch = pytest.importorskip("torch")

# One of every class that compiles in a moment, with the form that is differentiated: decays, erases, rotations, scans,
# lanes, stabilised, not linear, two directions, masks with sums between positions, tokens read elsewhere, softmax.
SAMPLE = {
    "linear_attention": "chunked", "gla": "chunked", "delta_rule": "chunked", "mamba3": "step", "hgrn": "scan",
    "mamba1": "scan", "rwkv4": "scan", "elman": "step", "lion_s": "step", "vision_mamba": "scan", "window_ffn": "scan",
    "short_convolution": "step", "softmax_causal": "quadratic", "forgetting_attention": "quadratic",
    "aft_full_causal": "quadratic",
    "kda": "chunked",
}  # fmt: skip
Call = Callable[..., Any]


def first_form(name: str) -> str:
    """The form with chunks where there is one."""
    plans = compilation(name).plans
    return next(form for form in ("chunked", "scan", "quadratic", "step") if form in plans)


LIBRARY = [
    pytest.param(name, form, id=f"{name}-{form}", marks=() if SAMPLE.get(name) == form else pytest.mark.full)
    for name in smir.library_names()
    for form in dict.fromkeys((first_form(name), *(f for f in ("step",) if f in compilation(name).plans)))
]


def small(mixer: CompiledMixer, B: int = 1, T: int = 5, H: int = 1) -> tuple[Call, list[Any]]:
    """A mixer as a function of arguments and initial states, to the output and final states, and values for these.

    Where a mixer looks ahead it has no states to go on from: then the function has the arguments and the output only.
    """
    sizes = {n: 2 + 2 * (i % 2) for i, n in enumerate(dimension_names(mixer.spec))}
    arrays = leaves(smir.sample(mixer.spec, B, T, H, sizes))
    goes_on = mixer.compilation.lookahead is None and bool(mixer.spec.states)
    states = leaves(sample_states(mixer.spec, B, H, sizes, seed=1)) if goes_on else {}

    def call(*tensors: Any) -> tuple[Any, ...]:
        given = dict(zip((*arrays, *states), tensors, strict=True))
        initial = {n: given.pop(n) for n in states}
        if not states:
            return (mixer(**given),)
        y, final = mixer(**given, state=initial, return_state=True)
        return (y, *multiplied_out(final))

    return call, [*arrays.values(), *states.values()]


def check(call: Call, tensors: list[Any]) -> None:
    """Along one direction, with all cotangents."""
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True, atol=1e-6, check_undefined_grad=False)


# ---- right ------------------------------------------------------------------------------------------------------


def test_the_sample_is_part_of_the_library() -> None:
    checked = {(run.values[0], run.values[1]) for run in LIBRARY if not run.marks}
    assert checked == set(SAMPLE.items())


@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_gradgradcheck_of_the_library(name: str, form: str) -> None:
    """Output and final states, by arguments, initial states and cotangents; several chunks, the last one ragged."""
    check(*small(compiled(name, form, 2)))


@pytest.mark.parametrize("name", ["scalar_decay", "hgrn", "elman", "softmax_causal"])
def test_gradgradcheck_entry_by_entry(name: str) -> None:
    """Also where some of the cotangents are missing."""
    call, tensors = small(compiled(name, first_form(name), 2), T=3)
    assert torch.autograd.gradgradcheck(call, tensors, atol=1e-6)


@pytest.mark.parametrize("name", ["retnet", "mamba1", "aft_full_causal"])
def test_gradgradcheck_of_what_a_batch_shares(name: str) -> None:
    """Gradients of parameters are sums over sequences, so their cotangents are read by all of them."""
    check(*small(compiled(name, first_form(name), 2), B=2, H=2))


def test_gradgradcheck_of_head_groups() -> None:
    q, k, v = leaves(smir.sample(compilation("softmax_gqa").spec, 2, 5, 4, {"K": 3, "V": 2})).values()
    k, v = (a.detach()[:, :, ::2].clone().requires_grad_() for a in (k, v))
    check(compiled("softmax_gqa", None, None), [q, k, v])


def test_gradgradcheck_of_a_convolution() -> None:
    check(*small(compiled("one_pole_memory", "convolution", None)))


@pytest.mark.parametrize("form", ["step", "chunked", "quadratic"])
def test_the_written_out_sum(form: str) -> None:
    """Linear attention with a decay in torch's own operations."""
    arrays, _ = sampled("retnet", T=9)

    def written(q: Any, k: Any, v: Any, gamma: Any) -> Any:
        i = torch.arange(9, dtype=torch.float64)
        weights = torch.where(i[:, None] >= i, gamma[:, None, None] ** (i[:, None] - i).clamp(min=0), 0.0)
        return torch.einsum("bihk,bjhk,hij,bjhv->bihv", q, k, weights, v)

    def twice(mixer: Any) -> list[Any]:
        tensors = list(arrays.values())
        once = torch.autograd.grad(weighted(mixer(**arrays)), tensors, create_graph=True)
        return list(torch.autograd.grad(weighted(*once), tensors))

    torch.testing.assert_close(twice(compiled("retnet", form, 4)), twice(written), rtol=1e-9, atol=1e-9)


# ---- what runs --------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[KernelPlan]]:
    """The plans that ran."""
    seen: list[KernelPlan] = []
    real = plan_interpreter.run_results

    def recording(plan: KernelPlan, arrays: Any, states: Any, **options: Any) -> Any:
        seen.append(plan)
        return real(plan, arrays, states, **options)

    monkeypatch.setattr(plan_interpreter, "run_results", recording)
    yield seen


def test_the_first_derivative_is_the_same_with_and_without_a_graph(runs: list[KernelPlan]) -> None:
    arrays, _ = sampled("gla")
    total = weighted(compiled("gla")(**arrays))
    plain = torch.autograd.grad(total, list(arrays.values()), retain_graph=True)
    recorded = torch.autograd.grad(total, list(arrays.values()), create_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, recorded, strict=True))
    assert not any(g.requires_grad for g in plain) and all(g.requires_grad for g in recorded)
    forward, first, again = runs
    assert first is again and set(compiled("gla").training_plan(set(arrays)).kept) == {b.name for b in forward.saved}


def test_only_what_is_asked_for_is_differentiated() -> None:
    done, every = compilation("gla"), frozenset({"q", "k", "v", "g"})
    part = second_plan(done, "chunked", frozenset({"q"}), frozenset({"v"}))
    whole = second_plan(done, "chunked", every, every | {"d_y"})
    assert {r.tensor for r in part.results} == {"d_v"}
    assert {r.tensor for r in whole.results} == {"d_q", "d_k", "d_v", "d_g", "d_d_y"}
    assert "d_d_k" not in {leaf.name for leaf in part.leaves} and len(part.kernels) < len(whole.kernels)


def test_what_is_linear_has_the_second_derivative_zero() -> None:
    arrays, _ = sampled("linear_attention")
    (d_q,) = torch.autograd.grad(compiled("linear_attention")(**arrays).sum(), [arrays["q"]], create_graph=True)
    by_q, by_v = torch.autograd.grad(d_q.square().sum(), [arrays["q"], arrays["v"]])
    assert not by_q.any() and by_v.any()


def test_a_plan_of_rotations_can_be_printed_and_read() -> None:
    done = compilation("mamba3")
    names = frozenset(d.name for d in done.spec.declarations)
    plan = second_plan(done, "step", names, names | {"d_y"})
    assert "turn_pairs" in print_ir(plan) and parse_ir(print_ir(plan)) == plan


def test_a_graph_can_be_used_twice() -> None:
    arrays, _ = sampled("hgrn")
    tensors = list(arrays.values())
    once = torch.autograd.grad(weighted(compiled("hgrn", "scan")(**arrays)), tensors, create_graph=True)
    first = torch.autograd.grad(weighted(*once), tensors, retain_graph=True)
    assert_same(list(torch.autograd.grad(weighted(*once), tensors)), list(first))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_second_derivatives_have_the_types_of_their_arguments(dtype: str) -> None:
    exact, _ = sampled("retnet", T=8)

    def twice(arrays: Mapping[str, Any]) -> list[Any]:
        tensors = list(arrays.values())
        once = torch.autograd.grad(weighted(compiled("retnet")(**arrays)), tensors, create_graph=True)
        return list(torch.autograd.grad(weighted(*once), tensors))

    short = {n: a.detach().to(getattr(torch, dtype)).requires_grad_() for n, a in exact.items()}
    expected = twice({n: a.detach().double().requires_grad_() for n, a in short.items()})
    for found, truth in zip(twice(short), expected, strict=True):
        assert found.dtype == getattr(torch, dtype)
        error = (found.double() - truth).square().mean().sqrt() / truth.square().mean().sqrt()
        assert error <= {"float32": 1e-5, "bfloat16": 3e-2}[dtype]


# ---- how they are used ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gla", "softmax_causal"])
def test_a_penalty_on_the_gradients_of_a_layer(name: str) -> None:
    """The derivative of |d loss / dx|^2 by all weights is its slope along a direction."""
    torch.manual_seed(0)
    layer = smir.nn.Mixer(name, d_model=8, heads=2).double()
    x, weights = torch.randn(1, 6, 8, dtype=torch.float64), list(layer.parameters())

    def penalty() -> Any:
        at = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(layer(at).square().sum(), [at], create_graph=True)
        return slope.square().sum()

    found = torch.autograd.grad(penalty(), weights)
    direction = [torch.randn_like(w) for w in weights]
    along = sum((g * d).sum() for g, d in zip(found, direction, strict=True))

    def moved(step: float) -> Any:
        with torch.no_grad():
            torch._foreach_add_(weights, direction, alpha=step)
        value = penalty().detach()
        with torch.no_grad():
            torch._foreach_add_(weights, direction, alpha=-step)
        return value

    coarse, fine = ((moved(h) - moved(-h)) / (2 * h) for h in (2e-4, 1e-4))
    np.testing.assert_allclose(float(along), float((4 * fine - coarse) / 3), rtol=1e-6)


# ---- refused ----------------------------------------------------------------------------------------------------


def test_third_derivatives_are_refused_in_words() -> None:
    arrays, _ = sampled("hgrn")
    tensors = list(arrays.values())
    once = torch.autograd.grad(weighted(compiled("hgrn", "scan")(**arrays)), tensors, create_graph=True)
    twice = torch.autograd.grad(weighted(*once), tensors, create_graph=True)
    with pytest.raises(smir.GradientError, match="no third ones"):
        weighted(*twice).backward()
