"""A spec is data: names are plain identifiers, numbers are finite, and nothing else gets through."""

import keyword
import math
import re

import pytest

from smir.errors import SmirError
from smir.frontends import parse_mixer
from smir.ir.graph import walk
from smir.source import Source

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

HOSTILE = [
    "__import__('os').system('true')",
    "__import__",
    "__class__",
    "_private",
    "x_",
    "a__b",
    "x\ny",
    "x;import os",
    "x#",
    "x y",
    "x.y",
    "x-y",
    "1x",
    "x'",
    'x"""',
    "{x}",
    "x\u200b",
    "\u0445",  # a Cyrillic letter that looks like x
    "\uff58",  # full-width x, which Python would normalise to x
    "x\u0301",
    "\u00aa",
    "x\x00",
    "x\u2028y",
    "lambda",
    "None",
    "import",
    "await",
    "x" * 65,
]

PLACES = [
    "mixer {}; input v: V; y = v",
    "mixer m; input {}: V; y = 1",
    "mixer m; input v: V; input {}: V; y = v",
    "mixer m; input v: V; param {}: V; y = v",
    "mixer m; input v: V; const {} = 1; y = v",
    "mixer m; input v: V; state {0}: V; {0}[t] = v[t]; y[t] = {0}[t]",
    "mixer m; input v: V; {0} = v; y = {0}",
    "mixer m; input v: V; M[{0}, j] = v[{0}].T @ v[j]; y = M @ v",
    "mixer m; input v: V; M[i, j] = sum({0}, i, j, v[{0}].T @ v[j]); y = M @ v",
    "mixer m; input v: {}; y = v",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_name_reaches_the_ir(name, place):
    try:
        mixer = parse_mixer(Source("s", place.format(name)))
    except SmirError:
        return
    strings = [mixer.name, *(n for n, _ in mixer.names), *(s.name for s in mixer.states)]
    strings += [d.name for d in mixer.declarations]
    strings += [n for d in mixer.declarations for dim in d.dims for n in dim.names]
    strings += [v for node in walk(mixer.roots()) for _, v in node.attrs if isinstance(v, str)]
    assert all(IDENTIFIER.fullmatch(s) and s.isascii() and not keyword.iskeyword(s) for s in strings), strings


@pytest.mark.parametrize(
    "number", ["nan", "1e309", "1e-999999", "9" * 5000, "1_000", "0x1F", "1j", "1.", "\u0661", "1e", "inf"]
)
def test_numbers_are_finite_unless_they_say_inf(number):
    try:
        mixer = parse_mixer(Source("s", f"mixer m; input v: V; y = v * {number}"))
    except SmirError:
        assert number != "inf"
        return
    values = [node["value"] for node in mixer.nodes() if node.op == "const"]
    assert all(math.isfinite(v) for v in values) or number == "inf"


@pytest.mark.parametrize("text", ["\x00", "\ud800", "mixer m\x1b[31m", "\u202e", "mixer m; input v: V; y = v\x00"])
def test_control_characters_are_shown_by_number(text):
    with pytest.raises(SmirError) as caught:
        parse_mixer(Source("s", text))
    assert re.search(r"U\+[0-9A-F]{4}", caught.value.message)
