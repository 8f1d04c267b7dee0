"""Random arguments keep the spec's promises."""

import numpy as np
import pytest

import smir
from smir.sampling import default_sizes, sample_states


def spec(declaration: str):
    return smir.compile(f"mixer m; {declaration}; state s: scalar; s[t] = s[t-1] + x[t]; y[t] = s[t]").spec


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(
    "promise",
    ["[-inf, 0]", "[0, 1]", "(0, 1)", "(0, 1]", "[-2, -1]", "[0, inf]", "(0, inf)", "[-5, 0]", "(-inf, 0)", "[2, 3)"],
)
def test_values_are_inside_the_promise(promise, extreme):
    mixer = spec(f"input x: scalar in {promise}")
    x = smir.sample(mixer, T=200, extreme=extreme)["x"]
    assert all(value in mixer.declaration("x").range for value in x.ravel())
    assert not np.isnan(x).any()


def test_extremes_include_exact_resets():
    x = smir.sample(spec("input x: scalar in [-inf, 0]"), T=100, extreme=True)["x"]
    assert np.isneginf(x).any() and (x == 0).any() and np.isfinite(x).any()


def test_the_seed_decides():
    mixer = spec("input x: scalar")
    one, same, other = (smir.sample(mixer, seed=s)["x"] for s in (3, 3, 4))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_shapes_follow_the_dimensions():
    mixer = smir.compile("mamba2_ssd").spec
    arrays = smir.sample(mixer, B=3, T=5, H=2, sizes={n: 2 * i + 4 for i, n in enumerate(sorted(default_sizes(mixer)))})
    for d in mixer.inputs:
        assert arrays[d.name].shape[:3] == (3, 5, 2)
    for d in mixer.params:
        assert arrays[d.name].shape[0] == 2
    assert {s.name for s in mixer.states} == set(sample_states(mixer, 3, 2))
