"""Rotations by positions in masked operators, as in rotary embeddings: what factors is a state that rotates."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.ir.tile_program import QUADRATIC

HEAD = "mixer m\ninput q, k: K; input v: V; param theta: K/2; input g: scalar in [-inf, 0]\n"
EACH = "((rot(theta * i) @ q[i]).T @ (rot(theta * j) @ k[j]))"
FACTORING = {
    "q and k": f"A[i, j] = {EACH}; y = (causal * A) @ v",
    "the difference": "A[i, j] = q[i].T @ (rot(theta * (j - i)) @ k[j]); y = (causal * A) @ v",
    "a constant beside it": "A[i, j] = q[i].T @ rot(theta * (i - j) + 2 * theta) @ k[j]; y = (causal * A) @ v",
    "k before q": "A[i, j] = (rot(-theta * j) @ k[j]).T @ (rot(-(theta * i)) @ q[i]); y = (causal * A) @ v",
    "spelled differently": """A[i, j] = (rot(2 * theta * i) @ q[i]).T @ (rot(theta * (j + j)) @ k[j])
      y = (causal * A) @ v""",
    "a decay": f"A[i, j] = {EACH} * 0.9 ** (i - j); y = (selective(exp(g)) * A) @ v",
    "both directions": f"A[i, j] = {EACH}; y = (lion(exp(g)) * A) @ v",
    "a window": f"A[i, j] = {EACH}; y = (window(3) * A) @ v",
    "strictly before": f"A[i, j] = where(j < i, {EACH}, 0); y = A @ v",
    "some distance before": f"A[i, j] = where(j < i - 2, {EACH}, 0); y = A @ v",
    "a shifted decay": f"""A[i, j] = where(j <= i, prod(m, j, i-1, exp(g[m])), prod(m, i+1, j, exp(g[m]))) * {EACH}
      y = A @ v""",
    "a normaliser": f"A[i, j] = {EACH}; y = (causal * A) @ v / (1 + ((causal * A) @ ones(T)) ** 2)",
}
NOT = {
    "one side only": ("A[i, j] = q[i].T @ (rot(theta * j) @ k[j]); y = (causal * A) @ v", "no function of i - j"),
    "a square": ("A[i, j] = q[i].T @ (rot(theta * (i - j) ** 2) @ k[j]); y = (causal * A) @ v", "times positions"),
    "data": ("A[i, j] = q[i].T @ (rot(theta * i * g[j]) @ k[j]); y = (causal * A) @ v", "times positions"),
}


@pytest.mark.parametrize("name", FACTORING)
def test_every_form_is_the_masked_operator(name: str) -> None:
    done = smir.compile(HEAD + FACTORING[name]).compilation
    arrays = smir.sample(done.spec, 2, 13, 2, {"K": 4, "V": 3}, extreme=True)
    expected, _ = run_mixer(done.spec, arrays)
    assert len(done.plans) >= 2
    for form, plan in done.plans.items():
        for chunk in (1, 5) if form != QUADRATIC else (5, 16):
            found, _ = run_plan(plan, arrays, chunk=chunk)
            np.testing.assert_allclose(found, expected, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("name", NOT)
def test_other_angles_are_refused_with_their_place(name: str) -> None:
    text, law = NOT[name]
    done = smir.compile(HEAD + text).compilation
    assert "chunked" not in done.forms
    (why,) = done.obstacles["chunked"]
    assert law in str(why) and why.span is not None
