"""Thousands of damaged specs: each is a mixer or an error of this project, with a place; nothing else comes out."""

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smir import library
from smir.errors import SmirError
from smir.frontends import parse_mixer
from smir.ir.mixer import Mixer
from smir.source import Source

MORE = """
mixer kitchen_sink
  const w = 4
  input q, k: K; input v: V in (-inf, inf); input theta: K/2; input s: 2*M+1
  input g: scalar in [-inf, 0]; param gamma: scalar in (0, 1); param b: T, T
  M[i, j] = where(j <= i and i - j < w, prod(m, j+1, i, exp(g[m])) * sum(m, j, i-1, q[m].T @ k[m+1]), 0)
  y = softmax(q @ k.T - gamma * M + b, window(w) * decay(gamma)) @ l2norm(v) + cumsum(g) * normalize(silu(v))
"""
STEP = """
mixer another
  input q, k: K; input v: V; input theta: K/2; input x: K
  state l: K = -inf; state R, Z: K, V
  c = exp(l[t-1] - l[t])
  l[t] = logaddexp(l[t-1], x[t-2])
  R[t] = diag(c) @ R[t-1] + (rot(theta[t]) @ k[t]) @ v[t].T
  Z[t] = elu(Z[t+1]) + eye(K) @ ones(K) @ ones(V).T
  y[t] = R[t].T @ softmax(rot(theta[t]).T @ q[t]) / max(abs(sum(Z[t], K)).T, 1) + sum(Z[t], K).T
"""
SPECS = [MORE, STEP, *(library.load(name).text for name in library.names())]
TOKEN = re.compile(r"\w+|\s+|\*\*|<=|\.T\b|[^\w\s]")
VOCABULARY = sorted(
    {token for spec in SPECS for token in TOKEN.findall(spec)} | {"inf", "1e999", "T", "t", "\u03bb", "\x00", "\r"}
)

WHERE = st.integers(0, 999)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("delete"), WHERE, st.integers(1, 4)),
        st.tuples(st.just("duplicate"), WHERE, st.integers(1, 6)),
        st.tuples(st.just("swap"), WHERE, WHERE),
        st.tuples(st.just("insert"), WHERE, st.sampled_from(VOCABULARY)),
        st.tuples(st.just("replace"), WHERE, st.sampled_from(VOCABULARY)),
        st.tuples(st.just("splice"), WHERE, st.tuples(st.integers(0, len(SPECS) - 1), WHERE, st.integers(1, 20))),
    ),
    min_size=1,
    max_size=4,
)


def edited(pieces, edits):
    """The pieces (characters or tokens) after these edits; positions wrap around."""
    for kind, where, what in edits:
        at = where % (len(pieces) or 1)
        if kind == "delete":
            pieces[at : at + what] = []
        elif kind == "duplicate":
            pieces[at:at] = pieces[at : at + what]
        elif kind == "swap" and pieces:
            other = what % len(pieces)
            pieces[at], pieces[other] = pieces[other], pieces[at]
        elif kind in ("insert", "replace"):
            pieces[at : at + (kind == "replace")] = [what]
        elif kind == "splice":
            spec, start, length = what
            pieces[at:at] = TOKEN.findall(SPECS[spec])[start : start + length]
    return "".join(pieces)


def a_mixer_or_an_error(text):
    try:
        assert isinstance(parse_mixer(Source("mutant", text)), Mixer)
    except SmirError as error:
        assert error.span is not None and error.span.line >= 1 and error.span.column >= 1
        assert "mutant:" in str(error) and error.to_json()["line"] == error.span.line


quickly = settings(max_examples=1200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quickly
@given(st.sampled_from(SPECS), EDITS)
def test_mutated_characters(spec, edits):
    a_mixer_or_an_error(edited(list(spec), edits))


@quickly
@given(st.sampled_from(SPECS), EDITS)
def test_mutated_tokens(spec, edits):
    a_mixer_or_an_error(edited(TOKEN.findall(spec), edits))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80) | st.lists(st.sampled_from(VOCABULARY), max_size=60).map(" ".join))
def test_noise(text):
    a_mixer_or_an_error(text)
    a_mixer_or_an_error("mixer m; input v: V; y = v + " + text)


def test_the_unmutated_specs_are_mixers():
    for text in SPECS:
        parse_mixer(Source("whole", text))
