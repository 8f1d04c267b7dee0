"""The specs whose segments, steps and rows are compared with whole calls, and how their arguments are cut."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

import smir
from smir.catalogue import library_names
from smir.compiled import CompiledMixer
from smir.ir.convolution import CONVOLUTION

Array = Any
Arrays = Mapping[str, Array]
TOKENS = 21

# What the library doesn't have: older states, delays of several tokens, of several heads at once, masks with windows,
# offsets and positions, inputs that a range keeps away from zero, more than one log of a scale.
OWN = {
    "older_states": """
mixer older_states
  input x: D
  param a, b: D
  state s: D
  s[t] = a * s[t-1] + b * tanh(s[t-3]) + x[t]
  y[t] = s[t] + s[t-2]
""",
    "older_start": """
mixer older_start
  input x: D
  state m: D = 0.5
  m[t] = 0.5 * m[t-2] + x[t-1]
  y[t] = m[t-1]
""",
    "delayed_keys": """
mixer delayed_keys
  input q, k: K
  input v: V
  input g: scalar in [-inf, 0]
  state S: K, V
  S[t] = exp(g[t-1]) * S[t-1] + k[t-2] @ (v[t] - v[t-1]).T
  y[t] = S[t].T @ q[t]
""",
    "delayed_decay": """
mixer delayed_decay
  input x: D
  input a: D in [0.25, 0.5]
  state h: D
  h[t] = a[t-1] * h[t-1] + x[t]
  y[t] = h[t]
""",
    "windowed": """
mixer windowed
  input q, k: K
  input v: V
  y = (window(4) * (q @ k.T)) @ v
""",
    "counted": """
mixer counted
  input q, k: K
  input v: V
  M[i, j] = where(j <= i, where(i - j < 3, exp(-0.1 * (i - j)), 0.25), 0)
  y = (M * (q @ k.T)) @ v
""",
    "averaged": """
mixer averaged
  input q, k: K
  input v: V
  input lam: scalar in [0, 1]
  y = normalize(selective(lam) * (exp(q) @ exp(k).T)) @ v
""",
    "numbered": """
mixer numbered
  input q, k: K
  input v: V
  M[i, j] = where(j <= i, i - j + 1, 0)
  y = (M * (q @ k.T)) @ v
""",
}
# What looks ahead, with what the refusal says about it.
AHEAD = {
    "aft_full": "param `w` has an entry for every position",
    "aft_full_causal": "param `w` has an entry for every position",
    "aft_simple": "every position reads all positions",
    "bidir_half": "state `SB` runs backward",
    "bigbird": "entries above the diagonal",
    "hydra": "state `B` runs backward",
    "lion_d": "entries above the diagonal",
    "lion_d_norm": "entries above the diagonal",
    "lion_lit": "entries above the diagonal",
    "lion_lit_norm": "entries above the diagonal",
    "lion_s": "entries above the diagonal",
    "lion_s_norm": "entries above the diagonal",
    "lion_s_repo": "entries above the diagonal",
    "lion_s_repo_norm": "entries above the diagonal",
    "softmax_full": "every position reads all positions",
    "vision_mamba": "state `b` runs backward",
    "next_input": "`x[t+1]` is read ahead of its time",
    "one_of_two_masks": "every position reads all positions",
}
OWN_AHEAD = {
    "next_input": """
mixer next_input
  input x: D
  state h: D
  h[t] = 0.5 * h[t-1] + x[t]
  y[t] = h[t] + x[t+1]
""",
    "one_of_two_masks": """
mixer one_of_two_masks
  input q, k: K
  input v: V
  y = softmax(q @ k.T, causal) @ v + softmax(q @ k.T) @ v
""",
}
CAUSAL = [name for name in (*library_names(), *OWN) if name not in AHEAD]


@cache
def mixer(name: str, form: str | None = None, chunk: int | None = None) -> CompiledMixer:
    """A spec of the library, or one of `OWN`, in a form."""
    if form is None and chunk is None:
        return smir.compile({**OWN, **OWN_AHEAD}.get(name, name).strip())
    found = mixer(name)
    return CompiledMixer(found.compilation, form, None, chunk)


def forms(name: str, exact: bool = False) -> list[str]:
    """The forms of a spec; `exact`: without Fourier transforms, which are causal up to rounding only."""
    return [form for form in mixer(name).forms if not (exact and form == CONVOLUTION)]


def arguments(name: str, B: int = 2, T: int = TOKENS, H: int = 2, seed: int = 0, extreme: bool = False) -> Arrays:
    """Arguments in float64, by name; a spec that groups heads has fewer of some inputs."""
    return smir.sample(mixer(name).spec, B=B, T=T, H=H, seed=seed, extreme=extreme)


def cut(name: str, arrays: Arrays, take: Callable[[Array], Array]) -> dict[str, Array]:
    """The arguments with something taken of each input."""
    inputs = {d.name for d in mixer(name).spec.inputs}
    return {n: take(a) if n in inputs else a for n, a in arrays.items()}


def tokens(name: str, arrays: Arrays, first: int, last: int) -> dict[str, Array]:
    """The arguments of a segment."""
    return cut(name, arrays, lambda a: a[:, first:last])


def token(name: str, arrays: Arrays, t: int) -> dict[str, Array]:
    """The arguments of a step."""
    return cut(name, arrays, lambda a: a[:, t])


def row_of(name: str, arrays: Arrays, row: int) -> dict[str, Array]:
    """The arguments of a batch of one row, with memory of their own."""
    return cut(name, arrays, lambda a: np.ascontiguousarray(a[row : row + 1]))


def error(found: Array, expected: Array) -> float:
    """RMS of the difference over the RMS of what is expected; infinite values (logs of zero) must be the same."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    known = np.isfinite(expected)
    if found.shape != expected.shape or not np.array_equal(found[~known], expected[~known], equal_nan=True):
        return float("inf")
    difference, scale = found[known] - expected[known], float(np.sqrt(np.mean(expected[known] ** 2)))
    return float(np.sqrt(np.mean(difference**2))) / (scale or 1.0)


def assert_same(found: Arrays, expected: Arrays, limit: float) -> None:
    """The same entries, with the same values up to a relative error."""
    assert list(found) == list(expected)
    errors = {n: error(multiplied_out(found, n), multiplied_out(expected, n)) for n in expected}
    assert max(errors.values(), default=0.0) <= limit, errors


def multiplied_out(state: Arrays, name: str) -> Array:
    """A stabilised state times e^its log: both together say what it is."""
    log = state.get(f"{name}_log")
    if log is None:
        return np.asarray(state[name])
    return np.asarray(state[name]) * np.exp(np.asarray(log).reshape(log.shape + (1,) * (state[name].ndim - log.ndim)))
