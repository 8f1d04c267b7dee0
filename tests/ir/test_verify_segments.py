"""A plan along segments that the verifier accepts, and edits of it that break one rule each."""

import pytest

from smir.errors import IRError
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.verifier import verify

PLAN = """\
plan p chunked {
  leaf token u : @C x V
  result token y : @C x V offset=0
  buffer h_before : 1 x V chunk float32 own
  buffer h_end : 1 x V segment float32 own
  kernel walk_ends segments formula="h_end" {
    role V grid
    %h_end = load() kind="carried" name="h_end" : 1 x V
    %u = load() block="row" kind="token" name="u" offset=0 : @C x V
    %s = sum(%u) axis=0 : 1 x V
    %n = add(%h_end, %s) : 1 x V
    loop backward {
      carry h_end : 1 x V = 0.0 next=%n
      final_store h_end = %h_end
    }
  }
  kernel walk segments formula="h" {
    role V grid
    %first = load() kind="carried" name="first" : 1 x V
    %end = load() block="segment" kind="buffer" name="h_end" : 1 x V
    %m = add(%first, %end) : 1 x V
    %h = load() kind="carried" name="h" : 1 x V
    %u = load() block="row" kind="token" name="u" offset=0 : @C x V
    %s = sum(%u) axis=0 : 1 x V
    %n = add(%h, %s) : 1 x V
    loop segments_after {
      carry first : 1 x V = 0.0 state="h" start_only next=%m
    }
    loop backward {
      carry h : 1 x V = 0.0 start=%first next=%n
      store h_before = %h
      final_store h = %h
    }
  }
  kernel output formula="y" {
    role V grid
    %u = load() block="row" kind="token" name="u" offset=0 : @C x V
    %b = load() block="row" kind="buffer" name="h_before" : 1 x V
    %y = add(%u, %b) : @C x V
    store y = %y
  }
}
"""
EDITS = [
    ("kernel walk segments", "kernel walk", "'segments_after' is none of forward, backward"),
    ("kernel walk_ends segments", "kernel walk_ends", "kernel walk_ends doesn't walk along segments"),
    ('block="segment" kind="buffer"', 'block="row" kind="buffer"', "isn't what a segment ends with"),
    ("%n = add(%h, %s)", "%n = add(%h, %end)", "only loops over segments visit them"),
    ("%y = add(%u, %b)", "%e = load() block=\"row\" kind=\"buffer\" name=\"h_end\" : 1 x V\n    %y = add(%u, %e)",
     "only loops over segments visit them"),
    ("      store h_before = %h\n", "      store h_end = %h\n", "a segment ends after its last chunk"),
    ("start_only next=%m\n", "start_only next=%m\n      store h_before = %first\n", "stores in a loop over segments"),
    ("segment float32", "part float32", "'part' is none of"),
    ("      final_store h = %h\n    }\n", "      final_store h = %h\n    }\n    store h_before = %h\n",
     "also stores after its loops"),
]  # fmt: skip


def test_the_plan_survives_its_text() -> None:
    plan = parse_ir(PLAN)
    verify(plan)
    assert parse_ir(print_ir(plan)) == plan


@pytest.mark.parametrize(("old", "new", "message"), EDITS)
def test_a_broken_rule_is_named(old: str, new: str, message: str) -> None:
    assert old in PLAN
    with pytest.raises(IRError, match=message):
        verify(parse_ir(PLAN.replace(old, new, 1)))
