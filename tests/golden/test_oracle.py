"""The oracle against every golden vector: each has a library spec of its name."""

from pathlib import Path

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.calls.binding import bind
from smir.frontends import parse_mixer
from smir.source import Source
from tests.golden.vectors import cases, load, names, relative_rms

LIBRARY = Path(smir.__file__).parent / "library"
RUNS = [(name, case) for name in names() for case in cases(name)]


@pytest.mark.parametrize(("name", "case"), RUNS)
def test_oracle_agrees(name: str, case: str) -> None:
    path = LIBRARY / f"{name}.smir"
    mixer = parse_mixer(Source(path.name, path.read_text()))
    golden = load(name, case)
    bound = bind(mixer, (), golden.inputs, golden.initial or None)
    y, states = bound.restore(*run_mixer(mixer, bound.arrays, bound.states))
    assert relative_rms(y, golden.y) < 1e-10
    assert set(states) == set(golden.final)
    for state, expected in golden.final.items():
        assert states[state].shape == expected.shape
        assert relative_rms(states[state], expected) < 1e-10


def test_vectors_are_complete_and_finite() -> None:
    assert len(names()) == 44
    for name in names():
        for case in cases(name):
            golden = load(name, case)
            assert set(golden.inputs) >= set(golden.gradients) - {g for g in golden.gradients if "state" in g}
            assert golden.y.shape == golden.dy.shape
            assert all(np.isfinite(a).all() for a in (golden.y, *golden.gradients.values()))
