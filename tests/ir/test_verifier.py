"""One text that each level accepts, and edits of it that break one rule each."""

import pytest

from smir.errors import IRError
from smir.ir import expr
from smir.ir.dims import Dim
from smir.ir.expr import ValueType
from smir.ir.graph import make
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile import Tile
from smir.ir.verifier import verify
from tests.oracle import mixers

MIXER = """\
mixer m {
  input x : K in [0.0, 1.0]
  param u : K
  state h : K = 0.0
  %h = state() name="h" offset=-1 : K x 1 @step
  %x = input() name="x" offset=0 : K x 1 @step
  %1 = add(%h, %x) : K x 1 @step
  %2 = state() name="h" offset=0 : K x 1 @step
  %u = param() name="u" : K x 1 @const
  %y = mul(%2, %u) : K x 1 @step
  update h = %1
  output %y : K
}
"""
MASKED = """\
mixer m {
  input g : scalar
  input v : V
  %i = position() index="i" : 1 x 1 @pair
  %j = position() index="j" : 1 x 1 @pair
  %g = input_of() index="m" name="g" offset=0 : 1 x 1 @pair
  %s = sum_range(%j, %i, %g) index="m" : 1 x 1 @pair
  %p = pairwise(%s) : T x T @seq
  %v = sequence() name="v" : T x V @seq
  %y = matmul(%p, %v) : T x V @seq
  output %y : V
}
"""
OPERATORS = """\
operators {
  mixer m {
    input k, : K
    input v : V
    state S : K, V = 0.0
    %S = state() name="S" offset=-1 : K x V @step
    update S = %S
    %v = input() name="v" offset=0 : V x 1 @step
    output %v : V
  }
  %k = input() name="k" offset=0 : K x 1 @step
  %v = input() name="v" offset=0 : V x 1 @step
  %one = const() value=1.0 : 1 x 1 @const
  %r = read() name="r" : V x 1 @step
  %y = add(%r, %v) : V x 1 @step
  operator S : K x V forward {
    step {
      decay scalar log=%one
      write left=%k value=%v erase=%k when=decayed
    }
    step {
      write left=%k value=%v
    }
  }
  read r = S after %k
  output %y
}
""".replace("k, :", "k :")
TILES = """\
tile t chunked {
  leaf token g : @C x K in [-inf, 0.0]
  leaf param u : 1 x K
  %g = load() block="row" kind="token" name="g" offset=0 : @C x K
  %S = load() kind="carried" name="S" : 1 x K
  %z = pair_distance(%g) exclusive=false reverse=false : @C x K
  %e = exp(%z) : @C x K
  %t = transpose(%e) : K x @C
  %a = dot(%e, %t) : @C x @C
  %m = level_mask(%a) reverse=false : @C x @C
  %l = level_sum(%m) : @C x @C
  %o = dot(%l, %g) : @C x K
  %c = sum(%g) axis=0 : 1 x K
  %n = add(%S, %c) : 1 x K
  %b = load() block="row" kind="buffer" name="h" : @C x K
  %u = load() kind="param" name="u" : 1 x K
  %p = add(%b, %u) : @C x K
  %y = add(%p, %S) : @C x K
  scan forward {
    carry S : 1 x K = 0.0 state="S" next=%n
    export h = %o
  }
  output token y : @C x K offset=0 = %y
  output token y_1 : @C x K offset=-1 target="y" = %o
  output param u_sum : 1 x K offset=0 = %c
}
"""
PLAN = """\
plan p chunked {
  leaf token x : @C x K
  leaf token v : @C x V
  result token y : @C x V offset=0
  result param w : K x V offset=0
  buffer S_before : K x V chunk float32 own
  kernel carry formula="S" {
    role K full
    role V grid
    %x = load() block="row" kind="token" name="x" offset=0 : @C x K
    %v = load() block="row" kind="token" name="v" offset=0 : @C x V
    %t = transpose(%x) : K x @C
    %w = dot(%t, %v) : K x V
    %S = load() kind="carried" name="S" : K x V
    %n = add(%S, %w) : K x V
    loop forward {
      carry S : K x V = 0.0 state="S" next=%n
      store S_before = %S
      final_store S = %S
    }
  }
  kernel output formula="y" {
    role K full
    role V grid
    %x = load() block="row" kind="token" name="x" offset=0 : @C x K
    %b = load() block="row" kind="buffer" name="S_before" : K x V
    %y = dot(%x, %b) : @C x V
    store y = %y
    store w = %b
  }
}
"""

ONE = "%c = const() value=1.0 : 1 x 1 @const"
BROKEN = [
    (MIXER, "add(%h, %x)", "frobnicate(%h, %x)", "unknown operation"),
    (MIXER, "add(%h, %x)", "add(%h)", "takes 2 arguments, not 1"),
    (MIXER, "add(%h, %x) :", "add(%h, %x) axis=0 :", "has no attribute axis"),
    (MIXER, "offset=-1", "", "lacks the attribute offset"),
    (MIXER, "offset=-1", "offset=-1.0", "attribute offset must be a int"),
    (MIXER, "mul(%2, %u) : K x 1", "mul(%2, %u) : K x V", "its arguments give the type K x 1 @step"),
    (MIXER, "mul(%2, %u) : K x 1 @step", "mul(%2, %u) : K x 1 @const", "give the type K x 1 @step"),
    (MIXER, "mul(%2, %u)", "matmul(%2, %u)", "`@` of K x 1 and K x 1"),
    (MIXER, 'name="x"', 'name="z"', "there is no input z"),
    (MIXER, 'name="u"', 'name="x"', "there is no param x"),
    (MIXER, "input x : K", "input x : V", "input x is declared V x 1"),
    (MIXER, "param u", "param x", "name x: is declared twice"),
    (MIXER, "state h : K =", "state h : scalar =", "state h is declared 1 x 1"),
    (MIXER, "output %y : K", "output %y : V", "the output must be V x 1 @step"),
    (MIXER, 'state() name="h" offset=-1', 'state() name="h" offset=0', "defined by itself"),
    (MIXER, 'input() name="x" offset=0', 'state() name="h" offset=1', "forward and backward"),
    (MIXER, 'input() name="x" offset=0', 'read() name="x"', "`read` belongs to operator programs"),
    (MASKED, 'index="m" name', 'index="n" name', "index n is bound by no range"),
    (MASKED, "sum_range(%j, %i, %g)", "sum_range(%g, %i, %g)", "bounds of a range can't use its index m"),
    (MASKED, 'index="m" : 1', 'index="i" : 1', "a range needs an index of its own"),
    (MASKED, "input v : V", "input v : V, V", "only a vector or a number"),
    (MASKED, "output", "state S : scalar = 0.0\n  update S = %g\n  output", "only inside an index formula"),
    (MASKED, "output", f"state S : scalar = 0.0\n  {ONE}\n  update S = %c\n  output", "can't stand beside states"),
    (OPERATORS, 'value=1.0 : 1 x 1 @const', 'value=1.0 : K x 1 @const', "give the type 1 x 1 @const"),
    (OPERATORS, 'add(%r, %v)', 'add(%r, %k)', "dimensions V and K differ"),
    (OPERATORS, 'input() name="k"', 'state() name="S"', "state S is declared K x V"),
    (OPERATORS, "left=%k value=%v erase=%k", "left=%v value=%v erase=%k", "the left vector of a write must be K x 1"),
    (OPERATORS, "erase=%k", "erase=%v", "the vector of an erase must be K x 1"),
    (OPERATORS, "left=%k value=%v\n", "left=%k value=%k\n", "the value of a write must be V x 1"),
    (OPERATORS, "left=%k value=%v\n", "left=%k\n", "needs a value, an erase or both"),
    (OPERATORS, "left=%k value=%v\n", "left=%k value=%v\n decay scalar log=%one\n", "step 2 decays: only the first"),
    (OPERATORS, "decay scalar log=%one", "decay rows log=%one", "a row decay must be K x 1"),
    (OPERATORS, "decay scalar log=%one", "decay scalar log=%one sign=%k", "a scalar decay must be 1 x 1"),
    (OPERATORS, "when=decayed", "when=after", "'after' is none of before, decayed"),
    (OPERATORS, "K x V forward", "V x K forward", "the state is declared K x V"),
    (OPERATORS, "K x V forward", "K x V sideways", "'sideways' is none of forward, backward"),
    (OPERATORS, "operator S", "operator Z", "state S: has no operator"),
    (OPERATORS, "read r = S", "read r = Z", "there is no operator Z"),
    (OPERATORS, "read r = S after %k", "read r = S after %v", "the query of read r must be K x 1"),
    (OPERATORS, "read r =", "read other =", "read r does not exist"),
    (OPERATORS, "read r = S after %k", "read r = S after %k\n  read r = S after %k", "read r: is declared twice"),
    (OPERATORS, "read r = S after %k", "read r = S after %r", "is no read that comes before"),
    (OPERATORS, "left=%k value=%v\n", "left=%k value=%r\n", "the state S needs it before it is known"),
    (OPERATORS, "value=%v\n", "value=%v\n drive S after scale=%one\n", "which is no earlier operator"),
    (OPERATORS, "operator S", "elementwise S : max forward decay=%one write=%k\n operator S", "is declared"),
    (OPERATORS, "output %y", "output %k", "the output must be V x 1"),
    (TILES, "%z = pair_distance(%g)", "%z = pair_difference(%g)", "unknown operation"),
    (TILES, "dot(%e, %t) : @C x @C", "dot(%e, %t) : @C x K", "give the type @C x @C"),
    (TILES, "dot(%l, %g)", "dot(%g, %l)", "dot of @C x K and @C x @C"),
    (TILES, "axis=0", "axis=2", "axis must be 0 or 1"),
    (TILES, "dot(%l, %g)", "dot(%m, %g)", "outside of any level_sum"),
    (TILES, 'kind="token" name="g"', 'kind="token" name="f"', "has no token f to load"),
    (TILES, "leaf token g : @C x K", "leaf token g : @C x V", "token g is @C x V"),
    (TILES, 'block="row" kind="token"', 'block="col" kind="token"', "only the quadratic form visits other chunks"),
    (TILES, 'block="row" kind="token"', 'block="up" kind="token"', "a block is row, col, past, split or segment"),
    (TILES, 'kind="token"', 'kind="tokens"', "has no attribute block"),
    (TILES, 'kind="carried" name="S"', 'kind="carried" name="Z"', "has no carried Z to load"),
    (TILES, "carry S : 1 x K", "carry S : K x 1", "carry S is K x 1"),
    (TILES, "scan forward", "scan earlier", "'earlier' is none of forward, backward"),
    (TILES, "t chunked", "t diagonal", "'diagonal' is none of step, scan, chunked, quadratic"),
    (TILES, "t chunked", "t step", "the step form has one token"),
    (TILES, "export h = %o", "export h = %b", "the forward scan has no buffer h to load"),
    (TILES, "export h = %o", "", "the output has no buffer h to load"),
    (TILES, "token y : @C x K", "token y : @C x V", "result y is @C x V"),
    (TILES, "token y_1", "token y", "output y: is declared twice"),
    (TILES, "output param", "output state", "result u_sum: 'state' is none of token, param"),
    (TILES, "param u_sum : 1 x K offset=0 = %c", "token m : @C x @C offset=0 = %m", "outside of any level_sum"),
    (TILES, "leaf param u", "leaf param g", "leaf g: is declared twice"),
    (TILES, "leaf param u", "leaf weight u", "'weight' is none of token, past, param"),
    (TILES, "level_mask(%a)", "level_mask(%e)", "give the type @C x K"),
    (PLAN, "store w = %b", 'store w = %b summed="K"', "stores a sum over axis K, which it doesn't cut into blocks"),
    (PLAN, "K full", "K grid", "combines elements along axis K, which kernel output cuts into blocks"),
    (PLAN, "V grid", "@C grid", "axis @C can't be cut into blocks"),
    (PLAN, "V grid", "V blocks", "'blocks' is none of full, grid"),
    (PLAN, "store S_before = %S\n", "\n", "no buffer S_before to load"),
    (PLAN, "store S_before = %S\n", "store S_after = %S\n", "is neither a buffer, nor a result, nor a state"),
    (PLAN, "buffer S_before : K x V", "buffer S_before : V x K", "buffer S_before is V x K"),
    (PLAN, "S_before", "y", "buffer y: has the name of a result or of a state"),
    (PLAN, "S_before", "S", "buffer S: has the name of a result or of a state"),
    (PLAN, "chunk float32", "chunk float8", "'float8' is none of"),
    (PLAN, "chunk float32", "head float32", "'head' is none of"),
    (PLAN, "float32 own", "float32 lent", "'lent' is none of own, saved, given"),
    (PLAN, "float32 own", "float32 saved\n  buffer h : K x V chunk float32 saved", "nothing stores the result `h`"),
    (PLAN, "float32 own", "float32 own\n  buffer x : K x V chunk float32 given", "buffer x: is given under the name"),
    (PLAN, "final_store S =", "final_store Z =", "store to Z: is neither"),
    (PLAN, "store y = %y", "store S_before = %b", "nothing stores the result `y`"),
    (PLAN, "store w = %b", "store y = %y", "nothing stores the result `w`"),
    (PLAN, "result token y : @C x V", "result token y : @C x K", "result y is @C x K"),
    (PLAN, "result param w", "result weight w", "result w: 'weight' is none of token, param"),
    (PLAN, "result param w : K x V", "result param y : K x V", "result y: is declared twice"),
    (PLAN, 'kind="buffer" name="S_before"', 'kind="carried" name="S_before"', "has no attribute block"),
    (PLAN, "kernel output", "kernel carry", "kernel carry: is declared twice"),
]  # fmt: skip


@pytest.mark.parametrize(
    "text", [MIXER, MASKED, OPERATORS, TILES, PLAN], ids=["mixer", "masked", "ops", "tile", "plan"]
)
def test_the_unbroken_texts_are_accepted(text: str) -> None:
    verify(parse_ir(text))


@pytest.mark.parametrize(("text", "old", "new", "message"), BROKEN, ids=[b[3] for b in BROKEN])
def test_every_rule_refuses(text: str, old: str, new: str, message: str) -> None:
    broken = text.replace(old, new) if text is PLAN else text.replace(old, new, 1)
    assert broken != text
    ir = parse_ir(broken)
    with pytest.raises(IRError) as caught:
        verify(ir)
    assert message in str(caught.value)


@pytest.mark.parametrize("build", mixers.ALL, ids=lambda build: build.__name__)
def test_mixers_built_by_hand_are_accepted(build) -> None:
    verify(build())


def test_a_node_of_another_level_is_refused() -> None:
    mixer = mixers.diagonal()
    stray = make("neg", (mixer.output,), Tile("V", "1"))
    with pytest.raises(IRError, match="needs a type of this level, a ValueType"):
        verify(type(mixer)(mixer.name, mixer.declarations, mixer.states, stray, mixer.output_dims))


def test_a_buffer_that_is_given_may_be_read_before_it_is_written() -> None:
    given = PLAN.replace("      store S_before = %S\n", "")
    with pytest.raises(IRError, match="no buffer S_before to load"):
        verify(parse_ir(given))
    verify(parse_ir(given.replace("float32 own", "float32 given")))


def test_an_error_names_the_node_as_the_text_does() -> None:
    mixer = parse_ir(MIXER.replace("mul(%2, %u) : K x 1", "mul(%2, %u) : K x V"))
    with pytest.raises(IRError, match=r"^`mul\(state, param\) : K x V @step`: its arguments give the type K x 1 @step"):
        verify(mixer)
    assert print_ir(mixer)
    assert expr.eye(Dim.name("K")).type == ValueType(Dim.name("K"), Dim.name("K"), "const")
