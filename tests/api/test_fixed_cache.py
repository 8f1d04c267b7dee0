"""Tokens kept in memory of one size: steps that nothing on the host tells apart are those of a state that grows."""

from typing import Any

import numpy as np
import pytest
import torch

import smir
from smir.compiled import CompiledMixer
from smir.errors import ArgumentError, FormError, GradientError
from tests.passes.pair_specs import QKV, text_of

# Positions that count, of which the last are kept; and a window over delayed inputs.
TURNING = f"""mixer turning
 {QKV}; param theta: K/2
 A[i, j] = (rot(theta * i) @ q[i]).T @ (rot(theta * j) @ k[j]) * i
 y = softmax(A, window(5)) @ v
"""
# Nothing is kept but the token before the last, or nothing at all.
ALONE = f"mixer alone\n {QKV}\n A[i, j] = q[i].T @ k[j-1]\n y = softmax(A, window(1)) @ v\n"
NOTHING = f"mixer nothing\n {QKV}\n y = softmax(q @ k.T, window(1)) @ v\n"
QUICK = ["softmax_causal", "softmax_window8", "forgetting_attention", TURNING, ALONE, text_of("delayed")]
FULL = [
    NOTHING,
    "softmax_gqa",
    "softmax_alibi",
    "softmax_rope",
    "mla",
    *(text_of(n) for n in ("two reads", "quotient")),
]
SPECS = [*QUICK, *(pytest.param(s, marks=pytest.mark.full) for s in FULL)]
Arrays = dict[str, Any]
KINDS = {"numpy": lambda a: a, "torch": torch.from_numpy}


def drawn(mixer: CompiledMixer, T: int, kind: str, seed: int = 0) -> Arrays:
    return {n: KINDS[kind](a) for n, a in smir.sample(mixer.spec, B=2, T=T, H=2, seed=seed).items()}


def at(mixer: CompiledMixer, given: Arrays, place: Any) -> Arrays:
    inputs = {d.name for d in mixer.spec.inputs}
    return {n: a[:, place] if n in inputs else a for n, a in given.items()}


def decoded(mixer: CompiledMixer, given: Arrays, state: Any, prompt: int, T: int) -> np.ndarray[Any, Any]:
    """A prompt, tokens one by one, and the last ones a few at once."""
    parts = [mixer.step(**at(mixer, given, slice(0, prompt)), state=state, inplace=True, several=True)[0]]
    parts += [mixer.step(**at(mixer, given, t), state=state, inplace=True)[0][:, None] for t in range(prompt, T - 3)]
    parts += [mixer.step(**at(mixer, given, slice(T - 3, T)), state=state, inplace=True, several=True)[0]]
    return np.concatenate([np.asarray(p) for p in parts], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", SPECS)
def test_tokens_are_the_whole(spec: str, kind: str) -> None:
    mixer = smir.compile(spec)
    state = mixer.new_state(capacity=24, graph=True)
    memory = None
    for prompt, seed in ((4, 0), (11, 1)):
        given = drawn(mixer, 24, kind, seed)
        np.testing.assert_allclose(decoded(mixer, given, state, prompt, 24), mixer(**given), rtol=1e-9, atol=1e-11)
        _, final = mixer(**given, return_state=True)
        assert set(final) == set(state)
        for name, a in final.items():
            np.testing.assert_allclose(np.asarray(state[name]), np.asarray(a), rtol=1e-12)
        places = [*state.memory.values(), *state.lines.values(), state.position]
        assert memory is None or all(a is b for a, b in zip(memory, places, strict=True))
        memory = places
        state.clear()


def test_any_other_call_reads_it() -> None:
    mixer = smir.compile("softmax_causal")
    given, state = drawn(mixer, 9, "numpy"), mixer.new_state(capacity=32, graph=True)
    mixer.step(**at(mixer, given, slice(0, 5)), state=state, inplace=True, several=True)
    y, after = mixer(**at(mixer, given, slice(5, 9)), state=state, return_state=True)
    np.testing.assert_allclose(y, mixer(**given)[:, 5:], rtol=1e-9)
    assert after["k_past"].shape[1] == 9 and int(state.position) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_without_a_place_are_nan(kind: str) -> None:
    """The others aren't touched, and the state can be begun anew."""
    mixer = smir.compile("softmax_causal")
    given, state = drawn(mixer, 9, kind), mixer.new_state(capacity=6, graph=True)
    whole = np.asarray(mixer(**given))
    found = decoded(mixer, given, state, 2, 9)
    np.testing.assert_allclose(found[:, :6], whole[:, :6], rtol=1e-9)
    assert np.isnan(found[:, 6:]).all()
    state.clear()
    y, _ = mixer.step(**at(mixer, given, slice(0, 3)), state=state, inplace=True, several=True)
    np.testing.assert_allclose(np.asarray(y), whole[:, :3], rtol=1e-9)


def test_what_is_wrong_is_said() -> None:
    mixer = smir.compile("softmax_causal")
    given = drawn(mixer, 9, "torch")
    with pytest.raises(ArgumentError, match="positive number of tokens"):
        mixer.new_state(capacity=0, graph=True)
    with pytest.raises(FormError, match="doesn't grow"):
        smir.compile("gla").new_state(graph=True)
    with pytest.raises(ArgumentError, match="9 tokens in a state that has room for 4"):
        mixer.step(**given, state=mixer.new_state(capacity=4, graph=True), inplace=True, several=True)
    state = mixer.new_state(capacity=16, graph=True)
    with pytest.raises(GradientError, match="inplace"):
        mixer.step(**{n: a.requires_grad_() for n, a in given.items()}, state=state, inplace=True, several=True)
    with torch.no_grad():
        mixer.step(**given, state=state, inplace=True, several=True)
        with pytest.raises(ArgumentError, match="another batch"):
            mixer.step(**{n: a[:1, 0] for n, a in given.items()}, state=state, inplace=True)
    assert "room for 16 tokens" in repr(state)
