"""Newlines, semicolons, comments, brackets."""

import pytest

from smir.errors import SpecSyntaxError
from smir.frontends import parse_mixer
from smir.source import Source

PLAIN = "mixer m\ninput v: V\ninput g: scalar in [0, 1]\nstate S: V\nS[t] = g[t] * S[t-1] + v[t]\ny[t] = S[t]\n"


def parse(text):
    return parse_mixer(Source("s", text))


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.strip(),
        PLAIN.replace("\n", ";"),
        PLAIN.replace("\n", " ;\n\n ; "),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "   # comment with ; and ( and \u03bb\n"),
        "\ufeff# first line\n\n" + PLAIN + "\n\n# last line",
        PLAIN.replace(" ", "\t "),
        PLAIN.replace("\ny", "\n        y"),
        PLAIN.replace("g[t] *", "(g[t\n]\n*").replace("v[t]\n", "v[t]\n)\n"),
        PLAIN.replace("[0, 1]", "[0, # comment in brackets\n 1]"),
    ],
)
def test_layout_does_not_matter(text):
    assert parse(text) == parse(PLAIN)


def test_half_open_ranges_count_as_brackets():
    mixer = parse("mixer m; input a: V in (0,\n 1]; input b: V in [0, 1\n); y = a * b")
    assert [str(d.range) for d in mixer.inputs] == ["(0, 1]", "[0, 1)"]


def test_an_operator_at_the_end_of_a_line_does_not_continue_it():
    with pytest.raises(SpecSyntaxError, match="found the end of the statement, expected an expression"):
        parse(PLAIN.replace("* S", "*\n S"))


def test_positions_survive_joined_lines():
    mixer = parse("mixer m; input v: V; y = (v\n  + exp(v))")
    span = mixer.span(mixer.output.args[1])
    assert (span.line, span.column, span.text) == (2, 5, "exp(v)")
