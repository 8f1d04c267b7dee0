"""Calls that torch traces: `torch.compile` without graph breaks at any length, and operators that torch finds sound."""

from collections.abc import Callable, Iterator
from shutil import which
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.testing import assert_close

import smir
from smir.compilation import DIRECT
from smir.compiled import CompiledMixer
from smir.specs import library_names
from smir.torch_side.operators import calls_of, described

# Kernels of three kinds: a state that erases, convolutions, pairs with groups of heads.
CLASSES = ("gated_delta_rule", "s4d_real", "softmax_gqa")
SPECS = [pytest.param(n, marks=() if n in CLASSES else pytest.mark.full) for n in library_names()]
Tensors = dict[str, Any]


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield


def tensors(mixer: CompiledMixer, T: int, B: int = 2, recorded: bool = True) -> Tensors:
    drawn = smir.sample(mixer.spec, B=B, T=T, H=2, seed=T, sizes={})
    return {name: torch.from_numpy(a).requires_grad_(recorded) for name, a in drawn.items()}


def compiled(call: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=True)


def gradients(results: tuple[Any, Tensors], given: Tensors) -> tuple[Any, ...]:
    y, final = results
    loss = y.square().sum() + sum(s.square().sum() for s in final.values() if s.requires_grad)
    return torch.autograd.grad(loss, list(given.values()), allow_unused=True)


@pytest.mark.parametrize("name", SPECS)
def test_one_graph_serves_all_lengths(name: str) -> None:
    """Values, final states and gradients of an eager call, in one graph that is compiled once."""
    mixer = smir.compile(name)
    trains = mixer.forms != (DIRECT,)

    def call(given: Tensors) -> tuple[Any, Tensors]:
        return mixer(**given, return_state=True)

    traced = compiled(call)
    for T in (20, 33):
        given = tensors(mixer, T, recorded=trains)
        found, expected = traced(given), call(given)
        assert_close(found, expected, rtol=1e-9, atol=1e-12)
        if trains:
            assert_close(gradients(found, given), gradients(expected, given), rtol=1e-8, atol=1e-11)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, in its check
@pytest.mark.parametrize("name", SPECS)
def test_the_operator_is_sound(name: str) -> None:
    mixer = smir.compile(name)
    given = tensors(mixer, T=12, recorded=mixer.forms != (DIRECT,))
    torch.library.opcheck(torch.ops.smir.mix, (list(given.values()), None, [], True, described(mixer.calls)))


def test_packed_sequences_are_traced() -> None:
    mixer = smir.compile("scalar_decay")

    def call(given: Tensors, bounds: Any) -> tuple[Any, Tensors]:
        return mixer(**given, cu_seqlens=bounds, return_state=True)

    traced = compiled(call)
    for bounds in (torch.tensor([0, 3, 9, 20]), torch.tensor([0, 5, 31])):
        given = tensors(mixer, T=int(bounds[-1]), B=1)
        found, expected = traced(given, bounds), call(given, bounds)
        assert_close(found, expected, rtol=1e-9, atol=1e-12)
        assert_close(gradients(found, given), gradients(expected, given), rtol=1e-8, atol=1e-11)
    torch.library.opcheck(torch.ops.smir.mix, (list(given.values()), bounds, [], True, described(mixer.calls)))


def test_states_go_in_and_out_of_a_graph() -> None:
    mixer = smir.compile("mlstm")

    def halves(given: Tensors) -> tuple[Any, Tensors]:
        names = {d.name for d in mixer.spec.inputs}
        first = {n: t[:, :10] if n in names else t for n, t in given.items()}
        rest = {n: t[:, 10:] if n in names else t for n, t in given.items()}
        y, state = mixer(**first, return_state=True)
        z, state = mixer(*rest.values(), state=state, return_state=True)
        return torch.cat([y, z], 1), state

    given = tensors(mixer, T=24)
    found, expected = compiled(halves)(given), halves(given)
    assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert_close(gradients(found, given), gradients(expected, given), rtol=1e-8, atol=1e-11)


def test_numbers_and_arrays_without_heads() -> None:
    mixer = smir.compile("retnet")
    given = {n: torch.randn(2, 9, 4, dtype=torch.float64) for n in ("q", "k", "v")}
    assert_close(compiled(lambda g: mixer(**g, gamma=0.5))(given), mixer(**given, gamma=0.5))


def test_a_graph_is_made_anew_for_another_mixer() -> None:
    mixers = [smir.compile("retnet", form=form) for form in ("chunked", "step")]
    other = smir.compile("scalar_decay")

    def call(mixer: CompiledMixer, q: Any, gate: Any) -> Any:
        return mixer(q, q, q, gate)

    q, gamma, g = torch.randn(1, 9, 2, 4), torch.full((2,), 0.5), -torch.rand(1, 9, 2)
    with torch._dynamo.config.patch(error_on_recompile=False):
        traced = compiled(call)
        for mixer, gate in (*((m, gamma) for m in mixers), (other, g), (mixers[0], gamma)):
            assert_close(traced(mixer, q, gate), mixer(q, q, q, gate))


def test_the_text_of_an_operator_is_the_mixer() -> None:
    """A process that has never seen the mixer compiles it from the text."""
    from smir.torch_side import operators

    for name in CLASSES:
        mixer = smir.compile(name, chunk=16)
        text = described(mixer.calls)
        known = operators._MIXERS.pop(text)
        again = calls_of(text)
        assert again is not known and again.asked == mixer.calls.asked and again.done.forms == mixer.forms
        given = tensors(mixer, T=9, recorded=False)
        assert torch.equal(again((), given, None, False), mixer(**given))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, q, g: m(q, q, q), "missing argument g"),
        (lambda m, q, g: m(q, q, q, g, state={"X": q}), "no state 'X'"),
        (lambda m, q, g: m(q, q[:, :5], q, g), "argument k has shape"),
        (lambda m, q, g: m(q, q, q, g, check_ranges=True), "check_ranges"),
    ],
)
def test_what_is_wrong_is_said_while_tracing(call: Callable[..., Any], message: str) -> None:
    mixer, q, g = smir.compile("scalar_decay"), torch.randn(1, 9, 2, 4), torch.zeros(1, 9, 2)
    with pytest.raises(Exception, match=message):
        torch.compile(lambda q, g: call(mixer, q, g), fullgraph=True, backend="aot_eager")(q, g)


@pytest.mark.skipif(which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_compiles_a_training_step() -> None:
    mixer = smir.compile("gated_delta_rule")
    given = {n: t.detach().float().requires_grad_() for n, t in tensors(mixer, T=20).items()}
    traced = torch.compile(lambda g: mixer(**g, return_state=True), fullgraph=True)
    found, expected = traced(given), mixer(**given, return_state=True)
    assert_close(found, expected)
    assert_close(gradients(found, given), gradients(expected, given))
