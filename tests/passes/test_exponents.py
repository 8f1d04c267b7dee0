"""Every exponent that the compiler introduces is proved bounded."""

import pytest

import smir
from smir.frontends import parse_mixer
from smir.ir.operator import OperatorProgram
from smir.ir.tile_program import STEP
from smir.passes.analysis.exponents import COMPILER, USER, exponent_report
from smir.passes.forms.lower_chunked import lower_chunked
from smir.passes.forms.lower_quadratic import lower_quadratic
from smir.passes.masks.masks_to_states import masks_to_states
from smir.passes.recognition.recognise import recognise
from smir.source import Source
from tests.passes.library import LIBRARY
from tests.passes.operator_programs import Case, every_class, program


def recognised(text: str) -> OperatorProgram:
    mixer = parse_mixer(Source("spec", text))
    steps = masks_to_states(mixer) if mixer.masked else mixer
    assert not isinstance(steps, tuple)
    found = recognise(steps)
    assert isinstance(found, OperatorProgram)
    return found


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_library_exponents_are_proved(name: str) -> None:
    tiles = smir.compile(LIBRARY[name]).compilation.tiles
    for lowered in (tiles[form] for form in tiles if form != STEP):
        report = exponent_report(lowered)
        assert [e for e in report if e.origin == COMPILER and not e.proved] == []


def test_every_class_has_exponents_at_most_zero() -> None:
    for case in every_class():
        for lowered in (lower_chunked(program(case)), lower_quadratic(program(case))):
            assert all(e.interval.hi <= 0 for e in exponent_report(lowered))


def test_an_unpromised_decay_is_reported() -> None:
    text = """mixer unpromised
      input q, k: K;  input v: V;  input g: scalar
      state S: K, V
      S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T
      y[t] = S[t].T @ q[t]"""
    report = exponent_report(lower_chunked(recognised(text)))
    assert report and all(e.origin == COMPILER and not e.proved for e in report)


def test_an_exp_of_the_spec_is_the_users() -> None:
    text = """mixer written
      input q, k: K;  input v: V
      state S: K, V
      S[t] = S[t-1] + exp(k[t]) @ v[t].T
      y[t] = S[t].T @ q[t]"""
    (found,) = exponent_report(lower_chunked(recognised(text)))
    assert found.origin == USER and not found.proved


def test_clamps_only_where_the_promise_admits_a_reset() -> None:
    bounded = """mixer bounded
      input q, k: K;  input v: V;  input g: scalar in [-5, 0]
      state S: K, V
      S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T
      y[t] = S[t].T @ q[t]"""
    assert not [n for n in lower_chunked(recognised(bounded)).nodes() if n.op == "max"]
    assert [n for n in lower_chunked(program(Case(scalar=True))).nodes() if n.op == "max"]
