"""A sequence in segments, or as a prompt and single tokens, is the whole sequence: float64, to 1e-10."""

import itertools
from typing import Any

import numpy as np
import pytest

from tests.equivalences.specs import CAUSAL, TOKENS, arguments, assert_same, error, forms, mixer, token, tokens

LIMIT = 1e-10


def splits(seed: int, tokens: int = TOKENS) -> list[tuple[int, int]]:
    """Segments of random lengths, one of a single token among them."""
    rng = np.random.default_rng(seed)
    inner = sorted({1, *rng.choice(np.arange(2, tokens), rng.integers(1, 4), replace=False).tolist()})
    edges = [0, *inner, tokens]
    return list(itertools.pairwise(edges))


def check_segments(name: str, form: str | None, segments: list[tuple[int, int]], seed: int, **sizes: int) -> None:
    """Also when different segments run in different forms: what a state holds doesn't depend on the form."""
    arrays, whole = arguments(name, T=segments[-1][1], seed=seed, **sizes), mixer(name, form)
    y, final = whole(**arrays, return_state=True)
    parts, state = [], None
    for first, last in segments:
        part, state = whole(**tokens(name, arrays, first, last), state=state, return_state=True)
        parts.append(part)
    assert error(np.concatenate(parts, axis=1), y) <= LIMIT
    assert_same(state, final, LIMIT)


@pytest.mark.parametrize("name", CAUSAL)
def test_whole_is_any_split(name: str) -> None:
    for number, form in enumerate(forms(name)):
        check_segments(name, form, splits(number), seed=number)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", CAUSAL)
def test_whole_is_any_split_of_long_and_short_sequences(name: str, seed: int) -> None:
    for form in (None, *forms(name)):
        check_segments(name, form, splits(seed, 150), seed, B=1 + seed % 3, H=1 + seed % 2, extreme=seed % 2 == 1)
        check_segments(name, form, [(0, 1), (1, 2), (2, 3)], seed)


@pytest.mark.parametrize("name", CAUSAL)
def test_prompt_then_steps_is_the_whole(name: str) -> None:
    """Single tokens, then several at once; every step with the states in place and apart, to the same bits."""
    arrays, m = arguments(name), mixer(name)
    y, final = m(**arrays, return_state=True)
    prompt, state = m(**tokens(name, arrays, 0, 5), return_state=True)
    parts, own = [prompt], {entry: a.copy() for entry, a in state.items()}
    for t in range(5, 9):
        one = token(name, arrays, t)
        given, kept = state, {entry: a.copy() for entry, a in state.items()}
        step, state = m.step(**one, state=given)
        assert all(np.array_equal(given[entry], kept[entry]) for entry in kept), "the state given is as it was"
        again, own = m.step(**one, state=own, inplace=True)
        assert np.array_equal(step, again)
        assert all(np.array_equal(state[entry], own[entry]) for entry in state)
        parts.append(step[:, None])
    rest, state = m.step(**tokens(name, arrays, 9, TOKENS), state=state, several=True)
    assert error(np.concatenate([*parts, rest], axis=1), y) <= LIMIT
    assert_same(state, final, LIMIT)


@pytest.mark.parametrize("name", CAUSAL)
def test_steps_alone_are_the_whole(name: str) -> None:
    arrays, m = arguments(name, T=6, seed=3), mixer(name)
    y, final = m(**arrays, return_state=True)
    state, found = None, []
    for t in range(6):
        step, state = m.step(**token(name, arrays, t), state=state)
        found.append(step)
    assert error(np.stack(found, axis=1), y) <= LIMIT
    assert_same(state, final, LIMIT)


def assert_whole(name: str, arrays: dict[str, Any]) -> None:
    """A prompt, a step and the rest are the whole sequence; a step in place is one apart."""
    y, final = mixer(name)(**arrays, return_state=True)
    first, state = mixer(name)(**tokens(name, arrays, 0, 8), return_state=True)
    step, state = mixer(name).step(**token(name, arrays, 8), state=state)
    own = {entry: np.array(a) for entry, a in state.items()}
    rest, end = mixer(name)(**tokens(name, arrays, 9, TOKENS), state=state, return_state=True)
    assert error(np.concatenate([first, step[:, None], rest], axis=1), y) <= LIMIT
    assert_same(end, final, LIMIT)
    _, after = mixer(name).step(**token(name, arrays, 9), state=own, inplace=True)
    assert_same(after, mixer(name).step(**token(name, arrays, 9), state=state)[1], 0.0)


@pytest.mark.parametrize("name", ["gla", "mamba3", "mlstm", "short_convolution", "softmax_causal", "older_states"])
def test_without_a_head_axis(name: str) -> None:
    arrays = {n: a[:, :, 0] for n, a in arguments(name, H=1).items() if a.ndim > 1 and a.shape[1] == TOKENS}
    arrays |= {n: a[0] for n, a in arguments(name, H=1).items() if n not in arrays}
    assert_whole(name, arrays)


@pytest.mark.parametrize("name", ["delayed_keys", "mamba3", "softmax_gqa", "windowed"])
def test_inputs_that_groups_of_heads_share(name: str) -> None:
    shared = ("k", "v", "B", "x")
    arrays = {n: a[:, :, :2] if n in shared else a for n, a in arguments(name, H=4).items()}
    assert_whole(name, arrays)
