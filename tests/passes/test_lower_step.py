"""The step form against the oracle, non-linear and two-direction mixers included."""

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.plan_interpreter import run_plan
from smir.backends.numpy_reference.tile_interpreter import run_tile
from smir.errors import FormError
from smir.frontends import parse_mixer
from smir.ir.mixer import Mixer
from smir.ir.pairs import PairProgram
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.verifier import verify
from smir.passes.forms.lower_step import lower_step
from smir.passes.kernels.partition import partition
from smir.passes.masks.masks_to_states import masks_to_states
from smir.passes.recognition.recognise_pairs import recognise_pairs
from smir.sampling import dimension_names
from smir.source import Source
from tests.passes.library import LIBRARY

HEAD = "mixer one\n input q, k: K; input v: V; input g: scalar\n state S: K, V\n"
SPECS = {
    "non-linear": HEAD + "S[t] = tanh(S[t-1]) + k[t] @ v[t].T\n y[t] = S[t].T @ q[t]",
    "older values": HEAD + "S[t] = sigmoid(g[t]) * S[t-1] + 0.3 * S[t-3] + k[t-1] @ v[t+1].T\n y[t] = S[t-2].T @ q[t]",
    "looking ahead": HEAD + "S[t] = sigmoid(g[t]) * S[t-1] + k[t] @ v[t].T\n y[t] = S[t+1].T @ q[t] + S[t].T @ k[t]",
    "two directions": """mixer two
      input q, k: K; input v: V; input g: scalar in [-inf, 0]
      state F, B: K, V
      F[t] = exp(g[t]) * F[t-1] + k[t] @ v[t].T
      B[t] = exp(g[t+1]) * B[t+1] + k[t] @ v[t].T
      y[t] = (F[t] + B[t]).T @ q[t] - (k[t].T @ q[t]) * v[t]""",
    "backward after forward": """mixer chained
      input q, k: K; input v: V
      param w: K; param W: K, K
      state F, B: K
      F[t] = 0.5 * F[t-1] + W @ k[t] * w
      B[t] = 0.5 * B[t+1] + tanh(F[t-1] + F[t])
      y[t] = v[t] * (B[t].T @ q[t]) + v[t] * (F[t+1].T @ softmax(q[t].T).T)""",
    "matrix output": HEAD + "S[t] = 0.5 * S[t-1] + k[t] @ v[t].T\n y[t] = S[t]",
}


def arrays(mixer: Mixer, tokens: int, seed: int):
    rng = np.random.default_rng(seed)
    sizes = {name: 4 if name == "K" else 3 + i for i, name in enumerate(dimension_names(mixer))}
    found = {}
    for d in mixer.declarations:
        shape = ((2, tokens, 2) if d.kind == "input" else (2,)) + tuple(x.size(sizes) for x in d.dims)
        value = rng.normal(size=shape)
        if d.range.lo >= 0:
            value = rng.random(shape)
        elif d.range.hi <= 0:
            value = np.where(rng.random(shape) < 0.1, -np.inf if d.range.lo == -np.inf else value, -np.abs(value))
        found[d.name] = value
    states = {s.name: rng.normal(size=(2, 2, *(x.size(sizes) for x in s.dims))) for s in mixer.states}
    return found, states


def check(mixer: Mixer) -> None:
    program = lower_step(mixer)
    verify(program)
    assert parse_ir(print_ir(program)) == program
    for tokens in (1, 2, 9):
        inputs, states = arrays(mixer, tokens, tokens)
        for start in (None, states):
            y, final = run_mixer(mixer, inputs, start)
            for got, end in (
                run_tile(program, inputs, start, chunk=1),
                run_plan(partition(program), inputs, start, chunk=1),
            ):
                np.testing.assert_allclose(got, y, rtol=1e-10, atol=1e-12)
                assert end.keys() == final.keys()
                for name, value in final.items():
                    np.testing.assert_allclose(end[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SPECS)
def test_hand_written_specs(name: str) -> None:
    check(parse_mixer(Source(name, SPECS[name])))


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_library(name: str) -> None:
    mixer = parse_mixer(Source(name, LIBRARY[name]))
    steps = masks_to_states(mixer) if mixer.masked else mixer
    if not isinstance(steps, Mixer):
        assert isinstance(recognise_pairs(mixer), PairProgram)
        return
    check(steps)


def test_two_directions_hand_over_vectors_not_states() -> None:
    program = lower_step(parse_mixer(Source("two", SPECS["two directions"])))
    first, last = program.scans
    assert [value.type.cols for _, value in first.exports] == ["1"]
    assert {first.order, last.order} == {"forward", "backward"}


def test_a_masked_operator_has_no_step() -> None:
    text = "mixer m\n input q, k: K; input v: V\n y = (causal * (q @ k.T)) @ v"
    with pytest.raises(FormError, match="no step equations"):
        lower_step(parse_mixer(Source("m", text)))
