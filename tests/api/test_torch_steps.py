"""Steps of decoding that torch traces: one graph for every token, and an operator that torch finds sound."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.testing import assert_close

import smir
from smir.compiled import CompiledMixer
from smir.errors import FormError
from smir.nn import Mixer
from smir.specs import library_names
from smir.torch_side.operators import described

# A weight that depends on the number of a position, of which a window is kept.
TURNING = """mixer turning
  input q, k: K;  input v: V
  A[i, j] = (q[i].T @ k[j]) * i
  y = softmax(A, window(5)) @ v
"""
# States with logs of scales; a window of tokens and its position.
CLASSES = ("mlstm", TURNING)
Tensors = dict[str, Any]


def has_steps(name: str) -> bool:
    try:
        return smir.compile(name).calls.steps is not None
    except FormError:
        return False


SPECS = [*CLASSES, *(pytest.param(n, marks=pytest.mark.full) for n in library_names() if n not in CLASSES)]


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    with torch.no_grad():
        yield


def drawn(mixer: CompiledMixer, T: int) -> Tensors:
    return {n: torch.from_numpy(a) for n, a in smir.sample(mixer.spec, B=2, T=T, H=2, seed=1).items()}


def at(mixer: CompiledMixer, given: Tensors, place: Any) -> Tensors:
    inputs = {d.name for d in mixer.spec.inputs}
    return {n: a[:, place].clone() if n in inputs else a for n, a in given.items()}


def compiled(call: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=True)


@pytest.mark.parametrize("spec", SPECS)
def test_one_graph_decodes_every_token(spec: str) -> None:
    mixer = smir.compile(spec)
    if not has_steps(spec):
        pytest.skip("it looks ahead")
    given = drawn(mixer, 11)
    _, state = mixer(**at(mixer, given, slice(0, 7)), return_state=True)
    state = {name: s.clone(memory_format=torch.contiguous_format) for name, s in state.items()}
    traced, plain = compiled(lambda tokens, state: mixer.step(**tokens, state=state)), state
    for t in range(7, 10):
        y, state = traced(at(mixer, given, t), state)
        expected, plain = mixer.step(**at(mixer, given, t), state=plain)
        assert_close((y, dict(state)), (expected, dict(plain)), rtol=1e-12, atol=1e-12)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


@pytest.mark.parametrize("spec", SPECS)
def test_the_operator_is_sound(spec: str) -> None:
    mixer = smir.compile(spec)
    if not has_steps(spec):
        pytest.skip("it looks ahead")
    given, text = drawn(mixer, 9), described(mixer.calls)
    _, state = mixer(**at(mixer, given, slice(0, 6)), return_state=True)
    first = at(mixer, given, 6)
    torch.library.opcheck(torch.ops.smir.step, ([*first.values(), *state.values()], list(state), False, text))
    several = at(mixer, given, slice(6, 9))
    torch.library.opcheck(torch.ops.smir.step, (list(several.values()), [], True, text))


@pytest.mark.full
def test_states_in_16_bits_stay_so() -> None:
    mixer = smir.compile("mlstm")
    given = {n: a.bfloat16() for n, a in drawn(mixer, 3).items()}
    _, state = mixer.step(**at(mixer, given, 0))
    state = {n: s if n.endswith("_log") else s.bfloat16() for n, s in state.items()}
    y, after = compiled(lambda tokens, state: mixer.step(**tokens, state=state))(at(mixer, given, 1), state)
    assert_close((y, after), mixer.step(**at(mixer, given, 1), state=state))
    assert {n: s.dtype for n, s in after.items()} == {n: s.dtype for n, s in state.items()}


def test_in_place_the_states_own_memory_is_written() -> None:
    layer, x = Mixer("gla", d_model=8, heads=2, dtype=torch.float64), torch.randn(2, 6, 8, dtype=torch.float64)
    whole = layer(x)
    _, state = layer(x[:, :4], return_state=True)
    kept = state["S"]
    traced = compiled(lambda x, state: layer.step(x, state, inplace=True)[0])
    for t in (4, 5):
        assert_close(traced(x[:, t], state), whole[:, t])
    assert state["S"] is kept and counters["stats"]["unique_graphs"] == 1


@pytest.mark.full
def test_gradients_flow_through_a_traced_step() -> None:
    mixer = smir.compile("gla")
    given = {n: a.requires_grad_() for n, a in at(mixer, drawn(mixer, 3), 0).items()}

    def step(given: Tensors) -> Any:
        y, state = mixer.step(**given)
        return y.square().sum() + state["S"].square().sum()

    with torch.enable_grad():
        found, expected = (torch.autograd.grad(call(given), list(given.values())) for call in (compiled(step), step))
    assert_close(found, expected)


@pytest.mark.parametrize(
    ("spec", "call", "message"),
    [
        ("softmax_causal", lambda m, x, s: m.step(**x, state=s, inplace=True), "inplace=True in a traced step"),
        ("gla", lambda m, x, s: m.step(**x, state={}, inplace=True), "S isn't given"),
        ("gla", lambda m, x, s: m.step(**x, state={"Z": x["q"]}), "no state 'Z'"),
        ("lion_s", lambda m, x, s: m.step(**x), "no step"),
    ],
)
def test_what_is_wrong_is_said_while_tracing(spec: str, call: Callable[..., Any], message: str) -> None:
    mixer = smir.compile(spec)
    given = drawn(mixer, 3)
    _, state = mixer(**given, return_state=True)
    with pytest.raises(Exception, match=message):
        compiled(lambda x, s: call(mixer, x, s))(at(mixer, given, 0), dict(state))
