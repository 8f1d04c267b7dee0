"""Long and deep texts end in one clear error, soon, and never in a stack overflow."""

import sys

import pytest

from smir.errors import SmirError, SpecSyntaxError, SpecTypeError
from smir.frontends import parse_mixer
from smir.source import Source

IO = "mixer m; input v: V; "


def refused(text, error, message):
    with pytest.raises(error, match=message) as caught:
        parse_mixer(Source("s", text))
    assert caught.value.span is not None and caught.value.hint


@pytest.mark.parametrize(
    "expression",
    [
        "v" + " + v" * 10_000,
        "-" * 10_000 + "v",
        "v" + ".T" * 10_000,
        "v" + " ** 2" * 5_000,
        "v" + "[t]" * 10_000,
        "v < v" + " and v < v" * 4_000,
        "exp(" * 60 + "v" + " + 1" * 60 + ")" * 60,
    ],
    ids=["sum", "minus", "transpose", "power", "index", "and", "mixed"],
)
def test_deep_expressions(expression):
    refused(IO + "y = " + expression, SpecSyntaxError, "nested more than 80 operations deep")


@pytest.mark.parametrize("brackets", [("(", ")"), ("exp(", ")"), ("v[", "]")], ids=["group", "call", "index"])
@pytest.mark.parametrize("closed", [True, False])
def test_deep_brackets(brackets, closed):
    text = brackets[0] * 5_000 + "v" + (brackets[1] * 5_000 if closed else "")
    refused(IO + "y = " + text, SpecSyntaxError, "brackets nested more than 80 deep")


def test_long_text():
    refused(IO + "y = v" + "\n# comment" * 10_000, SpecSyntaxError, "the text has 1000.. characters")


def test_many_statements():
    text = IO + "".join(f"a{n} = v; " for n in range(600)) + "y = v"
    refused(text, SpecSyntaxError, "more than 500 statements")


def test_a_chain_of_definitions():
    chain = "".join(f"a{n + 1} = exp(a{n}) + a{n}; " for n in range(120))
    refused(IO + "a0 = v; " + chain + "y = a120", SpecTypeError, "more than 200 operations deep")


def test_what_is_within_the_limits_is_read():
    deep = "exp(" * 70 + "v" + ")" * 70
    mixer = parse_mixer(Source("s", IO + "a = " + deep + "; y = " + deep.replace("v", "a")))
    assert len(list(mixer.nodes())) == 141


def test_a_doubling_chain_stays_small():
    chain = "".join(f"a{n + 1} = a{n} * a{n}; " for n in range(150))
    assert len(list(parse_mixer(Source("s", IO + "a0 = v; " + chain + "y = a150")).nodes())) == 151


def test_little_stack_is_needed():
    limit = sys.getrecursionlimit()
    depth = len(_frames())
    sys.setrecursionlimit(depth + 600)
    try:
        for text in (
            IO + "y = " + "exp(" * 79 + "v" + ")" * 79,
            IO + "y = " + "(" * 6000,
            IO + "y = v" + "+v" * 20_000,
        ):
            try:
                parse_mixer(Source("s", text))
            except SmirError:
                continue
    finally:
        sys.setrecursionlimit(limit)


def _frames():
    frame, frames = sys._getframe(), []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames
