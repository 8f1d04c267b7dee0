"""Delay lines: states read from afar pass through helpers, and nothing else changes."""

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.ir.mixer import Mixer
from smir.passes.delay_lines import delay_lines
from tests.passes.oracle_checks import mixer_of, random_arrays

FAR = [
    "state h: V\nh[t] = exp(g[t]) * h[t-1] + 0.5 * h[t-3] + v[t]\ny[t] = h[t] - h[t-2]\n",
    "state h: V = 2\nh[t] = tanh(h[t-2]) + v[t]\ny[t] = h[t] * h[t-4]\n",
    "state b: V = 1\nb[t] = exp(g[t]) * b[t+2] + v[t]\ny[t] = b[t+3]\n",
    "state h: V\nh[t] = v[t]\ny[t] = h[t-2] + h[t-1]\n",
    "state f, b: V\nf[t] = f[t-1] + v[t]\nb[t] = lam[t] * b[t+1] + v[t]\ny[t] = f[t-3] * b[t+2] + b[t-2]\n",
    "state S: K, V\nS[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T\ny[t] = S[t-2].T @ q[t]\n",
]


@pytest.mark.parametrize("body", FAR)
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_same_values_from_near_reads(body: str, tokens: int) -> None:
    mixer = mixer_of(body)
    near = delay_lines(mixer)
    assert all(abs(n["offset"]) <= 1 for n in near.nodes() if n.op == "state")
    arrays = random_arrays(mixer, tokens)
    y, final = run_mixer(mixer, arrays)
    near_y, near_final = run_mixer(near, arrays)
    np.testing.assert_array_equal(near_y, y)
    for name, value in final.items():
        np.testing.assert_array_equal(near_final[name], value)


def test_near_mixer_is_left_as_it_is() -> None:
    mixer = mixer_of("state h: V\nh[t] = h[t-1] + v[t-5]\ny[t] = h[t]\n")
    assert delay_lines(mixer) is mixer


def helper_names(mixer: Mixer) -> list[str]:
    return [s.name for s in delay_lines(mixer).states[len(mixer.states) :]]


def test_helpers_are_shared_and_get_fresh_names() -> None:
    body = "param h_past1: V\nstate h: V\nh[t] = h[t-1] + v[t]\ny[t] = h[t-2] + h[t-3] + h_past1\n"
    assert helper_names(mixer_of(body)) == ["h_past1_2", "h_past2"]
