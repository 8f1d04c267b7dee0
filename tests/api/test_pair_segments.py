"""Softmax mixers in segments and token by token: the state holds the tokens that later ones read."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import smir
from smir.compiled import CompiledMixer
from smir.errors import ArgumentError, FormError, GradientError
from smir.sampling import sample
from smir.states.token_cache import TokenCache
from tests.passes.pair_specs import QKV, text_of

Arrays = dict[str, Any]
CACHED = "softmax_causal softmax_window8 softmax_alibi softmax_gqa softmax_rope forgetting_attention mla".split()
# Positions count, and only the last tokens are kept; delay lines of a query and of a key.
TURNING = f"""mixer turning
 {QKV}; param theta: K/2
 A[i, j] = (rot(theta * i) @ q[i]).T @ (rot(theta * j) @ k[j]) * i
 y = softmax(A, window(5)) @ v
"""
DELAYED = f"mixer m\n {QKV}\n A[i, j] = q[i-2].T @ k[j] + q[i].T @ k[j-1]\n y = softmax(A, window(4)) @ v\n"
SPECS = [*CACHED, TURNING, text_of("delayed"), DELAYED]
T = 24


@cache
def compiled(spec: str) -> CompiledMixer:
    return smir.compile(spec)


def arrays_of(mixer: CompiledMixer, T: int = T) -> Arrays:
    found: Arrays = dict(sample(mixer.spec, 2, T, 4, seed=2))
    if mixer.spec.name == "softmax_gqa":
        found |= {name: found[name][:, :, :2] for name in ("k", "v")}
    return found


def part(mixer: CompiledMixer, arrays: Arrays, tokens: slice | int) -> Arrays:
    """Some tokens of a sequence, or one without a time axis."""
    inputs = {d.name for d in mixer.spec.inputs}
    return {name: a[:, tokens] if name in inputs else a for name, a in arrays.items()}


def in_segments(mixer: CompiledMixer, arrays: Arrays, lengths: tuple[int, ...]) -> tuple[Any, Mapping[str, Any]]:
    at, state, found = 0, None, []
    for n in lengths:
        y, state = mixer(**part(mixer, arrays, slice(at, at + n)), state=state, return_state=True)
        found.append(y)
        at += n
    assert state is not None
    return (np if isinstance(found[0], np.ndarray) else torch).concatenate(found, 1), state


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("lengths", [(11, 1, 1, 11), (1,) * T])
def test_any_segments_are_the_whole(spec: str, lengths: tuple[int, ...]) -> None:
    mixer = compiled(spec)
    arrays = arrays_of(mixer)
    y, state = in_segments(mixer, arrays, lengths)
    np.testing.assert_allclose(y, mixer(**arrays), atol=1e-10)
    if "position" in state:
        assert state["position"] == T


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy])
def test_prefill_then_steps_are_the_whole(spec: str, of: Callable[[Any], Any]) -> None:
    mixer = compiled(spec)
    arrays = arrays_of(mixer)
    given, whole = {name: of(a) for name, a in arrays.items()}, mixer(**arrays)
    _, state = mixer(**part(mixer, given, slice(0, 9)), return_state=True)
    grown: Any = mixer.new_state(capacity=4)
    _, grown = mixer.step(**part(mixer, given, slice(0, 9)), state=grown, inplace=True, several=True)
    for t in range(9, T - 4):
        y, state = mixer.step(**part(mixer, given, t), state=state)
        np.testing.assert_allclose(y, whole[:, t], atol=1e-10)
        y, after = mixer.step(**part(mixer, given, t), state=grown, inplace=True)
        assert after is grown
        np.testing.assert_allclose(y, whole[:, t], atol=1e-10)
    y, state = mixer.step(**part(mixer, given, slice(T - 4, T)), state=state, several=True)
    np.testing.assert_allclose(y, whole[:, T - 4 :], atol=1e-10)


def test_the_future_changes_nothing() -> None:
    mixer = compiled("forgetting_attention")
    arrays = arrays_of(mixer)
    _, state = mixer(**part(mixer, arrays, slice(0, 12)), return_state=True)
    later = {name: a.copy() for name, a in arrays.items()}
    later["k"][:, 20:], later["v"][:, 20:] = 1e30, -1e30
    found, _ = mixer(**part(mixer, later, slice(12, T)), state=state, return_state=True)
    np.testing.assert_array_equal(found[:, :8], mixer(**part(mixer, arrays, slice(12, T)), state=state)[:, :8])


def test_a_window_keeps_no_more_than_it_reads() -> None:
    mixer = compiled("softmax_window8")
    arrays = arrays_of(mixer)
    _, state = in_segments(mixer, arrays, (11, 1, 12))
    assert {name: a.shape[1] for name, a in state.items()} == {"k_past": 7, "v_past": 7}
    grown: Any = mixer.new_state(capacity=16)
    for t in range(T):
        _, grown = mixer.step(**part(mixer, arrays, t), state=grown, inplace=True)
        assert grown.tokens <= 7 and grown.room <= 16
    np.testing.assert_array_equal(grown["k_past"], arrays["k"][:, -7:])


@pytest.mark.parametrize("spec", ["softmax_causal", "softmax_window8", "softmax_gqa", "forgetting_attention", "mla"])
def test_gradients_through_a_state(spec: str) -> None:
    mixer = compiled(spec)
    given = {name: torch.from_numpy(a).requires_grad_() for name, a in arrays_of(mixer, 14).items()}
    y, _ = in_segments(mixer, given, (6, 1, 7))
    whole = mixer(**given)
    cotangent = torch.from_numpy(np.random.default_rng(3).standard_normal(whole.shape))
    found, truth = (torch.autograd.grad(out, list(given.values()), cotangent) for out in (y, whole))
    for a, b in zip(found, truth, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("spec", [TURNING, DELAYED])
def test_gradients_that_a_state_has_no_way_for_are_refused(spec: str) -> None:
    mixer = compiled(spec)
    given = {name: torch.from_numpy(a).requires_grad_() for name, a in arrays_of(mixer, 14).items()}
    with pytest.raises(GradientError, match="no gradients"):
        in_segments(mixer, given, (6, 8))


@pytest.mark.full
def test_a_compiled_step_is_one_operator() -> None:
    mixer = compiled("softmax_causal")
    given = {name: torch.from_numpy(a) for name, a in arrays_of(mixer).items()}
    _, state = mixer(**part(mixer, given, slice(0, 9)), return_state=True)

    def call(q: Any, k: Any, v: Any, state: Any) -> Any:
        return mixer(q, k, v, state=state, return_state=True)

    rest = part(mixer, given, slice(9, T))
    y, after = torch.compile(call, backend="eager", fullgraph=True)(*rest.values(), state)
    torch.testing.assert_close(y, mixer(**given)[:, 9:])
    assert after["k_past"].shape[1] == T


def test_nothing_is_prepared_again_as_the_past_grows() -> None:
    mixer = smir.compile("softmax_causal")
    arrays = arrays_of(mixer)
    _, state = mixer(**part(mixer, arrays, slice(0, 4)), return_state=True)
    for t in range(4, 20):
        _, state = mixer.step(**part(mixer, arrays, t), state=state)
    assert mixer.calls.pair_segments is not None and len(mixer.calls.pair_segments.prepared.known) == 1


def test_appending_copies_little() -> None:
    state = TokenCache(capacity=2)
    seen: list[int] = []
    for t in range(100):
        state.append({"k_past": np.full((1, 1, 3), float(t))})
        seen.append(state["k_past"].__array_interface__["data"][0])
    assert len(set(seen)) <= 7 and state.room <= 256
    np.testing.assert_array_equal(state["k_past"][0, :, 0], np.arange(100.0))


@pytest.mark.parametrize("most", [1, 3])
def test_a_bounded_state_stays_in_its_memory(most: int) -> None:
    state = TokenCache(capacity=4)
    for t in range(0, 60, 3):
        count = 3 if t % 2 else 1
        state.append({"k_past": torch.full((1, count, 2), float(t))}, most)
        assert state.tokens <= most
    assert state.room <= 10


def refusal(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_errors_say_what_is_wrong() -> None:
    mixer = compiled("softmax_causal")
    arrays = arrays_of(mixer)
    first, rest = part(mixer, arrays, slice(0, 8)), part(mixer, arrays, slice(8, T))
    state = mixer(**first, return_state=True)[1]
    refusal(lambda: mixer(**rest, state={"k_past": state["k_past"]}), ArgumentError, "without v_past")
    refusal(lambda: mixer(**rest, state={**state, "g": 1}), ArgumentError, "no state 'g'")
    short = {**state, "v_past": state["v_past"][:, 1:]}
    refusal(lambda: mixer(**rest, state=short), ArgumentError, "different numbers of tokens")
    wrong = {**state, "v_past": state["v_past"][:1]}
    refusal(lambda: mixer(**rest, state=wrong), ArgumentError, "expected")
    turned = {name: torch.from_numpy(a) for name, a in state.items()}
    refusal(lambda: mixer(**rest, state=turned), ArgumentError, "arrays of one kind")
    whole = {name: a.astype(int) for name, a in state.items()}
    refusal(lambda: mixer(**rest, state=whole), ArgumentError, "holds int64")
    strange = {"S": arrays["k"], "m": arrays["k"]}
    refusal(lambda: mixer(**rest, state=strange), ArgumentError, "looks like the state of another mixer")
    refusal(lambda: mixer.new_state(capacity=0), ArgumentError, "positive number of tokens")
    packed = {name: a[:1] for name, a in first.items()}
    cut = np.array([0, 3, 8])
    refusal(lambda: mixer(**packed, cu_seqlens=cut, return_state=True), ArgumentError, "for each sequence")
    recorded = {name: torch.from_numpy(a[:, 0]).requires_grad_() for name, a in first.items()}
    refusal(lambda: mixer.step(**recorded, state=mixer.new_state(), inplace=True), GradientError, "no_grad")


@pytest.mark.parametrize("name", ["softmax_full", "aft_full_causal", "bigbird"])
def test_mixers_that_look_ahead_have_no_state(name: str) -> None:
    mixer = compiled(name)
    arrays = arrays_of(mixer)
    refusal(lambda: mixer.new_state(), FormError, "no state to go on from")
    refusal(lambda: mixer.step(**part(mixer, arrays, 0)), FormError, "no step")
    refusal(lambda: mixer(**arrays, state={"k_past": arrays["k"]}), FormError, "no state to go on from")


def test_a_state_of_fixed_size_has_no_capacity() -> None:
    refusal(lambda: compiled("scalar_decay").new_state(), FormError, "doesn't grow")
