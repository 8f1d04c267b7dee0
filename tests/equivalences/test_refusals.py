"""What looks ahead is refused where a state would be needed, and a wrong state before anything is overwritten."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from smir.errors import ArgumentError, FormError, SmirError
from tests.equivalences.specs import AHEAD, CAUSAL, arguments, cut, error, mixer, tokens


@pytest.mark.parametrize("name", AHEAD)
def test_what_looks_ahead_has_no_steps_and_no_segments(name: str) -> None:
    arrays = arguments(name, T=6)
    token = cut(name, arrays, lambda a: a[:, 0])
    why = f"(?s){re.escape(AHEAD[name])}.*hint: a mixer that looks ahead needs the whole sequence in one call"
    ends = mixer(name)(**arrays, return_state=True)[1]
    for call in (
        lambda: mixer(name).step(**token),
        lambda: mixer(name).step(**arrays, several=True),
        lambda: mixer(name)(**arrays, state=ends),
    ):
        with pytest.raises(FormError, match=why) as caught:
            call()
        assert caught.value.span is not None and name in str(caught.value)


def test_values_at_the_ends_of_a_sequence_may_be_given() -> None:
    """They belong to the sequence: a state that runs backward starts at its end."""
    arrays = arguments("bidir_half", T=6)
    ends = {s.name: np.ones((2, 2, *(a.shape[-1] for a in (arrays["k"], arrays["v"]))))
            for s in mixer("bidir_half").spec.states}  # fmt: skip
    assert error(mixer("bidir_half")(**arrays, state=ends), mixer("bidir_half")(**arrays)) > 0.01


@pytest.mark.parametrize("name", CAUSAL)
def test_what_looks_back_has_steps(name: str) -> None:
    """The list of what is refused is complete."""
    assert mixer(name).compilation.lookahead is None


def gla(**change: Any) -> dict[str, Any]:
    return {**arguments("gla", T=6), **change}


def after(name: str, first: int = 4, **options: int) -> dict[str, np.ndarray]:
    """The state after a few tokens."""
    return dict(mixer(name)(**tokens(name, arguments(name, T=6, **options), 0, first), return_state=True)[1])


STATES: Mapping[str, tuple[str, Callable[[], Any], str]] = {
    "of another mixer": ("gla", lambda: after("lstm"), r"no state 'c'; this looks like the state of another mixer"),
    "another name": ("gla", lambda: {"s": after("gla")["S"]}, r"no state 's'\nhint: .*S"),
    "another batch": ("gla", lambda: after("gla", B=3), r"state S has shape \(3, 2, .*expected \[B, H, K, V\]"),
    "other heads": ("gla", lambda: after("gla", H=1), r"state S has shape \(2, 1, .*expected \[B, H, K, V\]"),
    "a list": ("gla", lambda: [1, 2], r"state is a list, expected a dictionary"),
    "text": ("gla", lambda: {"S": "zeros"}, r"state S is a str"),
    "whole numbers": ("gla", lambda: {"S": after("gla")["S"].astype(int)}, r"state S holds int64"),
    "a tensor": ("gla", lambda: {"S": torch.tensor(after("gla")["S"])}, r"a numpy array and state S a torch one"),
    "a past of another length": (
        "short_convolution",
        lambda: {"x_past": after("short_convolution")["x_past"][:, 1:]},
        r"state x_past has shape \(2, 2, .*expected \(2, 3, .*\n.*the last 3 tokens of x",
    ),
    "a past of another batch": (
        "mamba3",
        lambda: {**after("mamba3"), "x_past": after("mamba3", B=1)["x_past"]},
        r"state x_past has shape \(1, 1, .*is it from another mixer, or another batch",
    ),
    "a past of another kind": (
        "mamba3",
        lambda: {**after("mamba3"), "B_past": torch.tensor(after("mamba3")["B_past"])},
        r"state B_past is torch, and B a numpy array",
    ),
    "an older value alone": (
        "older_states",
        lambda: {"s_past": after("older_states")["s_past"]},
        r"state s_past is given without s",
    ),
    "a log alone": ("mlstm", lambda: {"S_log": after("mlstm")["S_log"]}, r"state S_log is given without S"),
    "None": ("gla", lambda: {"S": None}, r"state S is a NoneType"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "state", "message"), STATES.values(), ids=STATES)
def test_a_wrong_state(name: str, state: Callable[[], Any], message: str) -> None:
    arrays = arguments(name, T=6)
    token = cut(name, arrays, lambda a: a[:, 4])
    for call in (
        lambda: mixer(name)(**arrays, state=state()),
        lambda: mixer(name).step(**token, state=state()),
        lambda: mixer(name).step(**token, state=state(), inplace=True),
    ):
        with pytest.raises(SmirError) as caught:
            call()
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        mixer(name)(**arrays, state=state())
    assert caught.value.hint


def test_a_step_with_wrong_arguments_overwrites_nothing() -> None:
    token, state = cut("gla", gla(), lambda a: a[:, 0]), after("gla")
    kept = state["S"].copy()
    wrong = {
        r"argument q of a step has shape .*expected \[B, H, K\]\nhint: a step takes one token": gla(),
        r"argument k has shape": {**token, "k": token["k"][..., :2]},
        r"argument v is a str": {**token, "v": "v"},
        r"missing argument g": {n: a for n, a in token.items() if n != "g"},
    }
    for message, arrays in wrong.items():
        with pytest.raises(ArgumentError, match=message):
            mixer("gla").step(**arrays, state=state, inplace=True)
    with pytest.raises(ArgumentError, match=r"S isn't given\nhint: begin with the state that a call"):
        mixer("gla").step(**token, inplace=True)
    assert np.array_equal(state["S"], kept)


@pytest.mark.parametrize("name", ["gla", "gated_delta_rule", "mlstm", "hgrn", "short_convolution", "softmax_causal"])
def test_nan_is_passed_through_and_stays_in_its_row(name: str) -> None:
    arrays = {n: a.copy() for n, a in arguments(name, T=6).items()}
    clean, _ = mixer(name).step(**cut(name, arrays, lambda a: a[:, 4]), state=after(name))
    first = mixer(name).spec.inputs[-1].name
    arrays[first][0, 4] = np.nan
    y, state = mixer(name).step(**cut(name, arrays, lambda a: a[:, 4]), state=after(name))
    assert np.isnan(y[0]).any() and np.array_equal(y[1], clean[1])
    assert any(np.isnan(a[0]).any() for a in state.values() if a.ndim)
