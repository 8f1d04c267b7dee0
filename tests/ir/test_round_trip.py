"""`parse_ir(print_ir(x)) == x` for every level, and what the text looks like."""

from dataclasses import fields

import pytest
from hypothesis import given, settings

from smir.ir.dims import Dim
from smir.ir.mixer import Mixer
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.text import show_dims, split_lines
from tests.ir import strategies
from tests.oracle import mixers


@settings(max_examples=150)
@given(strategies.everything)
def test_any_ir_survives_its_text(ir) -> None:
    text = print_ir(ir)
    assert parse_ir(text) == ir
    assert print_ir(parse_ir(text)) == text


@given(strategies.dim_lists)
def test_dimensions_survive_their_text(dims: tuple[Dim, ...]) -> None:
    assert split_lines(show_dims(dims))[0].dims() == dims


@pytest.mark.parametrize("cls", strategies.FIELDS, ids=lambda cls: cls.__name__)
def test_every_field_of_an_ir_class_is_in_the_round_trip(cls) -> None:
    assert [f.name for f in fields(cls)] == strategies.FIELDS[cls].split()


@pytest.mark.parametrize("build", mixers.ALL, ids=lambda build: build.__name__)
def test_mixers_survive_with_indentation_and_comments_changed(build) -> None:
    mixer: Mixer = build()
    text = print_ir(mixer)
    loose = "\n\n".join(f"   {line.strip()}   # a comment" for line in text.split("\n"))
    assert parse_ir(loose) == parse_ir(text) == mixer


def test_the_text_of_a_mixer() -> None:
    assert print_ir(mixers.erasing()) == TEXT


TEXT = """\
mixer erasing {
  input q : K
  input k : K
  input v : V
  input g : scalar
  input beta : scalar
  state S : K, V = 0.0
  %g = input() name="g" offset=0 : 1 x 1 @step
  %1 = exp(%g) : 1 x 1 @step
  %S = state() name="S" offset=-1 : K x V @step
  %R = mul(%1, %S) : K x V @step
  %k = input() name="k" offset=0 : K x 1 @step
  %beta = input() name="beta" offset=0 : 1 x 1 @step
  %v = input() name="v" offset=0 : V x 1 @step
  %7 = transpose(%R) : V x K @step
  %8 = matmul(%7, %k) : V x 1 @step
  %9 = sub(%v, %8) : V x 1 @step
  %10 = mul(%beta, %9) : V x 1 @step
  %11 = transpose(%10) : 1 x V @step
  %12 = matmul(%k, %11) : K x V @step
  %13 = add(%R, %12) : K x V @step
  %14 = state() name="S" offset=0 : K x V @step
  %15 = transpose(%14) : V x K @step
  %q = input() name="q" offset=0 : K x 1 @step
  %y = matmul(%15, %q) : V x 1 @step
  update S = %13
  output %y : V
  name R = %R
  name y = %y
}
"""
