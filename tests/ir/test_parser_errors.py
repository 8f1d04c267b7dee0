"""Malformed text: one IRError that names the line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smir.errors import IRError
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from tests.oracle import mixers

GOOD = """\
mixer m {
  input x : K in [0.0, 1.0]
  state h : K = 0.0
  %x = input() name="x" offset=0 : K x 1 @step
  update h = %x
  output %x : K
}
"""
TILE = """\
tile t chunked {
  leaf token x : @C x K
  %x = load() block="row" kind="token" name="x" offset=0 : @C x K
  scan forward {
    carry h : @C x K = 0.0 next=%x
  }
  output token y : @C x K offset=0 = %x
}
"""
CASES = [
    ("", "is empty"),
    ("network m {\n}\n", "expected `mixer` or `operators` or `pairs` or `tile` or `plan`, found 'network' in line 1"),
    (GOOD.replace("m {", "m"), "expected `{`, found the end of the line in line 1"),
    (GOOD.replace("}\n", ""), "isn't closed by `}` after line 6"),
    (GOOD + "mixer n {\n}\n", "nothing after the closing `}`, found 'mixer' in line 8"),
    (GOOD.replace("input x", "inptu x"), "found 'inptu' in line 2"),
    (GOOD.replace("[0.0", "0.0"), "expected `[` or `(`, found '0.0' in line 2"),
    (GOOD.replace("1.0]", "one]"), "expected a number, found 'one' in line 2"),
    (GOOD.replace("K in", "K? in"), "not a dimension: 'K?' in line 2"),
    (GOOD.replace("K in", "K/0 in"), "not a dimension: 'K/0' in line 2"),
    (GOOD.replace("K in", "-" * 5000 + "K in"), "not a dimension"),
    (GOOD.replace("= 0.0", ""), "expected `=`, found the end of the line in line 3"),
    (GOOD.replace('name="x"', 'name="x'), "unexpected '\"' in line 4"),
    (GOOD.replace('name="x"', 'name="\\q"'), "a quoted string"),
    (GOOD.replace("input()", "input(%y)"), "a value that has been defined above, found '%y' in line 4"),
    (GOOD.replace("offset=0", "offset=zero"), "expected a number, found 'zero' in line 4"),
    (GOOD.replace("offset=0", "type=0"), "attribute 'type' can't stand here in line 4"),
    (GOOD.replace("offset=0", 'name="x"'), "attribute 'name' can't stand here in line 4"),
    (GOOD.replace("K x 1 @step", "K"), "expected `x`, found the end of the line in line 4"),
    (GOOD.replace("h = %x", "h = %z"), "found '%z' in line 5"),
    (GOOD.replace("update h", "update g"), "one update for each state, not g in line 5"),
    (GOOD.replace("  update h = %x\n", ""), "state h has no update in the block of line 1"),
    (GOOD.replace("  output %x : K\n", ""), "0 times `output` where one is needed in the block of line 1"),
    (GOOD.replace("  output %x : K\n", "  output %x : K\n" * 2), "2 times `output`"),
    (GOOD.replace("  update", '  %x = input() name="x" offset=1 : K x 1 @step\n  update'), "%x is defined twice"),
    (TILE.replace(" next=%x", ""), "expected `next=`, found the end of the line in line 5"),
    (TILE.replace("token y", "y"), "expected a name, found ':' in line 7"),
    (TILE.replace("offset=0 = %x", "= %x"), "expected `offset`, found '=' in line 7"),
    (TILE.replace("offset=0 = %x", "offset=0 target=%x"), "expected a quoted string, found '%x' in line 7"),
    (TILE.replace("offset=0 = %x", "offset=0"), "expected `=`, found the end of the line in line 7"),
    (TILE.replace("forward", ""), "expected an order, found '{' in line 4"),
    (TILE.replace("carry h", "store h"), "found 'store' in line 5"),
    (TILE.replace("@C x K\n", "@C\n", 1), "expected `x`, found the end of the line in line 2"),
]


@pytest.mark.parametrize(("text", "message"), CASES)
def test_malformed_text(text: str, message: str) -> None:
    with pytest.raises(IRError) as caught:
        parse_ir(text)
    assert message in str(caught.value)
    assert not text or "line " in str(caught.value)


def test_the_good_texts_are_good() -> None:
    for text in (GOOD, TILE):
        assert print_ir(parse_ir(text)) == text


WHOLE = print_ir(mixers.erasing())


@settings(max_examples=200)
@given(st.integers(0, len(WHOLE)), st.integers(0, 12), st.text(max_size=3))
def test_mutated_text_is_read_or_refused(at: int, cut: int, more: str) -> None:
    try:
        parse_ir(WHOLE[:at] + more + WHOLE[at + cut :])
    except IRError as error:
        assert "line" in str(error)
