"""What recognition tests share: random arrays in the promised ranges, and comparison with the oracle."""

import numpy as np

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.operator_interpreter import run_operators
from smir.frontends import parse_mixer
from smir.ir.mixer import INPUT, Mixer
from smir.ir.operator import Obstacle, OperatorProgram
from smir.passes.masks.masks_to_states import masks_to_states
from smir.passes.recognition.recognise import recognise
from smir.source import Source

SIZES = {"K": 4, "V": 3, "M": 2, "N": 5, "D": 3}
BATCH, HEADS = 2, 1

PRELUDE = """mixer m
  input q, k, k2: K
  input v: V
  input g: scalar in [-inf, 0]
  input gk: K in [-inf, 0]
  input gv: V in [-inf, 0]
  input beta, lam: scalar in [0, 1]
  input w: scalar
  param u: K
  param gamma: scalar in (0, 1)
  param s: scalar in [0, 2]
"""


def mixer_of(body: str) -> Mixer:
    """The mixer of a spec's body, with the common inputs declared above it."""
    return parse_mixer(Source("spec", PRELUDE + body))


def random_arrays(mixer: Mixer, tokens: int = 9, seed: int = 0, resets: bool = False) -> dict[str, np.ndarray]:
    """Arrays in canonical layout within their promised ranges; `resets` puts -inf where a range admits it."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for d in mixer.declarations:
        dims = tuple(x.size(SIZES) for x in d.dims)
        a = rng.normal(size=((BATCH, tokens, HEADS) if d.kind == INPUT else (HEADS,)) + dims)
        low, high = d.range.lo, d.range.hi
        if np.isfinite(low) and np.isfinite(high):
            a = low + (high - low) / (1 + np.exp(-a))
        elif np.isfinite(high):
            a = high - np.abs(a)
            if resets:
                a = np.where(rng.random(a.shape) < 0.2, -np.inf, a)
        arrays[d.name] = a
    return arrays


def random_states(mixer: Mixer, seed: int = 1) -> dict[str, np.ndarray]:
    """Initial states."""
    rng = np.random.default_rng(seed)
    return {s.name: rng.normal(size=(BATCH, HEADS, *(d.size(SIZES) for d in s.dims))) for s in mixer.states}


def recognised(mixer: Mixer) -> OperatorProgram:
    """The operators of a mixer that must be recognised, masked or not."""
    steps = masks_to_states(mixer) if mixer.masked else mixer
    assert isinstance(steps, Mixer), [str(o) for o in steps]
    program = recognise(steps)
    assert isinstance(program, OperatorProgram), [str(o) for o in program]
    return program


def assert_equals_oracle(mixer: Mixer, program: OperatorProgram, tokens: int = 9, resets: bool = False) -> None:
    """Outputs and final states of the recognised operators are those of the spec itself."""
    arrays, states = random_arrays(mixer, tokens, resets=resets), random_states(mixer)
    y, final = run_mixer(mixer, arrays, states)
    got, got_final = run_operators(program, arrays, states)
    assert np.isfinite(y).all()
    scale = 1 + np.abs(y).max()
    np.testing.assert_allclose(got / scale, y / scale, rtol=0, atol=1e-11)
    for name, value in final.items():
        np.testing.assert_allclose(got_final[name], value, rtol=1e-10, atol=1e-10, err_msg=name)


def obstacles(mixer: Mixer) -> tuple[Obstacle, ...]:
    """The obstacles of a mixer that must not be recognised."""
    steps = masks_to_states(mixer) if mixer.masked else mixer
    found = recognise(steps) if isinstance(steps, Mixer) else steps
    assert isinstance(found, tuple)
    assert found
    return found
