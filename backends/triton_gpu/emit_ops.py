"""One printing rule per tile operation."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from smir.backends.triton_gpu.emit_carries import print_initial
from smir.backends.triton_gpu.emit_levels import level_operands, print_joint_product, print_level_sum, print_summand
from smir.backends.triton_gpu.exact_sums import parts, sum_parts
from smir.backends.triton_gpu.facts import block_name
from smir.backends.triton_gpu.frame import over
from smir.backends.triton_gpu.inner_products import inner_product
from smir.backends.triton_gpu.pair_places import ROWS
from smir.backends.triton_gpu.precise import is_precise, is_wide, plain
from smir.backends.triton_gpu.read_ahead import read_ahead, read_pair_ahead, reads_ahead, reads_pair_ahead
from smir.backends.triton_gpu.scan_terms import scan_term
from smir.backends.triton_gpu.spelling import COMPARE, Text, number, spell
from smir.errors import IRError
from smir.ir.graph import Node
from smir.ir.ops import POINTWISE
from smir.ir.tile import CARRIED, CHUNK, COL, ONE, PAST, ROW, axis_parts
from smir.ir.tile_program import SCAN

if TYPE_CHECKING:
    from smir.backends.triton_gpu.emit_tiles import TilePrinter

_INSIDE = {ROW: "inside", COL: "col_inside", PAST: "past_inside"}
COMPARISONS = {"lower": ">=", "strict_lower": ">", "upper": "<=", "strict_upper": "<", "eye": "=="}
ROW_BY_COL = "row[:, None] {} row[None, :]"


def _load(p: "TilePrinter", n: Node) -> Text:
    if n["kind"] == CARRIED:
        return p.know(n, print_initial(p, p.constants[n]))
    if reads_pair_ahead(p, n):
        return read_pair_ahead(p, n)
    if reads_ahead(p, n):
        return read_ahead(p, n)
    loaded = p.frame.load(n)
    if n in p.laid_out:
        name = p.frame.names.new(f"loaded_{n['name']}")
        p.line(f"{name} = {loaded}")
        loaded = f"laid_out({name}, PRODUCT)"
    return Text(loaded if n in p.raw or p.keeps_type(n) else f"{loaded}.to(tl.float32)")


def _pointwise(p: "TilePrinter", n: Node) -> Text:
    if all(a.op == "const" for a in n.args):
        return number(float(POINTWISE[n.op].numpy(*(a["value"] for a in n.args))))
    if n.op == "pow" and n.args[1].op == "const":
        return _power(p, n)
    if (cheaper := scan_term(p, n)) is not None:
        return cheaper
    if n.op in ("and", "or"):
        return spell(n.op, [p.condition(a) for a in n.args])
    if n.op == "where":
        return spell(n.op, [p.condition(n.args[0]), p.numeric(n.args[1]), p.numeric(n.args[2])])
    return spell(n.op, [p.numeric(a) for a in n.args])


def _power(p: "TilePrinter", n: Node) -> Text:
    base, exponent = n.args[0], float(n.args[1]["value"])
    size = abs(exponent)
    if size == 0.5:
        text = spell("sqrt", [p.numeric(base)])
    elif size == int(size) and 1 <= size <= 4:
        factor = p.bind(base, p.numeric(base).text) if p.known(base) is None else p.numeric(base)
        text = factor
        for _ in range(int(size) - 1):
            text = spell("mul", [text, factor])
    else:
        return spell("pow", [p.numeric(base), number(exponent)])
    return spell("div", [Text("1.0"), text]) if exponent < 0 else text


def _dot(p: "TilePrinter", n: Node) -> Text:
    if n in p.joint:
        return print_joint_product(p, n)
    a, b = map(plain, n.args) if is_wide(n) else n.args
    both = f"{p.operand(a, 1, b)}, {p.operand(b, 0, a)}"
    if is_wide(n):
        return Text(f"wide_product({both}, WIDE, PRECISION)")
    if is_precise(a) or is_precise(b):
        return Text(f"precise_product({both}, PRODUCT, PRECISION)")
    return Text(f"tl.dot({both}, input_precision=PRECISION)")


def _transpose(p: "TilePrinter", n: Node) -> Text:
    a = n.args[0]
    if n.type.rows == n.type.cols == ONE:
        return p.value(a)
    if a.op == "cumsum" and a.type.cols != ONE:
        return Text(f"running_sum_transposed(tl.trans({p.value(a.args[0]).text}), {_ends(a)}, PARTS=PARTS)")
    return Text(f"tl.trans({p.value(a).text})")


def _broadcast(p: "TilePrinter", n: Node) -> Text:
    shape = p.frame.shape(n.type.rows, n.type.cols)
    a = n.args[0]
    if a.op == "const":
        return Text(f"tl.full({shape}, {number(a['value']).text}, tl.float32)")
    return Text(f"tl.broadcast_to({p.numeric(a).text}, {shape})")


def _reduce(function: str, fill: float) -> Callable[["TilePrinter", Node], Text]:
    def rule(p: "TilePrinter", n: Node) -> Text:
        a, axis = n.args[0], n["axis"]
        if a.type.rows == a.type.cols == ONE or (a.type.rows, a.type.cols)[axis] == ONE:
            return p.numeric(a)
        if (whole := inner_product(p, n)) is not None:
            return Text(whole)
        text = p.summand(a, axis, fill)
        if n.type.rows == n.type.cols == ONE:
            return Text(f"{function}({text})")
        return Text(f"{function}({text}, axis={axis}, keep_dims=True)")

    return rule


def _ends(n: Node) -> str:
    return f"REVERSE={n['reverse']}, EXCLUSIVE={n['exclusive']}"


def _cumsum(p: "TilePrinter", n: Node) -> Text:
    a = p.value(n.args[0]).text
    if n.type.cols == ONE:
        return Text(f"running_sum_column({a}, {_ends(n)})")
    if p.scans_sums:
        return Text(f"scanned_sum({a}, {_ends(n)})")
    if p.reads_levels:
        return Text(f"level_running_sum({a}, {p.frame.levels()}, LEVELS, {_ends(n)}, PARTS={sum_parts(p, n)})")
    return Text(f"running_sum({a}, {_ends(n)}, PARTS={parts(p, n.args[0])})")


def _segment_sum(p: "TilePrinter", n: Node) -> Text:
    return Text(f"segment_sum({p.value(n.args[0]).text}, {_ends(n)})")


def _mask(p: "TilePrinter", n: Node) -> Text:
    axis = n.type.rows
    test = ROW_BY_COL.format(COMPARISONS[n["kind"]])
    if axis != CHUNK:
        test = test.replace("row[", f"{ROWS.get(axis) or over(axis)}[")
    a = n.args[0]
    inner = a.args[0] if a.op == "broadcast" and p.uses[a] <= 1 else a
    return spell("where", [Text(test, COMPARE), p.numeric(inner), number(n["fill"])])


def _valid_rows(p: "TilePrinter", n: Node) -> Text:
    inside = _INSIDE[n["block"]]
    if p.frame.plan.form == SCAN:
        return Text(f"valid_rows({p.numeric(n.args[0]).text}, {inside}, {number(n['fill']).text}, RAGGED)")
    return spell("where", [Text(f"{inside}[:, None]"), p.numeric(n.args[0]), number(n["fill"])])


def _unit_inverse(p: "TilePrinter", n: Node) -> Text:
    flags = f"REVERSE={n['reverse']}, PRECISION=INVERSE_PRECISION"
    return Text(f"unit_inverse({p.value(n.args[0]).text}, LEVELS, {flags})")


def _pair_distance(p: "TilePrinter", n: Node) -> Text:
    found = p.distances[n]
    sums = f"{p.value(n.args[0]).text}, {found.prefix}, {found.suffix}, {p.frame.levels()}"
    return Text(f"pair_distance({sums}, level, {_ends(n)}, PARTS={found.parts})")


def _pair_collect(p: "TilePrinter", n: Node) -> Text:
    return Text(f"pair_collect({print_summand(p, n.args[0])}, {p.frame.levels()}, level, {_ends(n)}, PARTS=PARTS)")


def _pairs(p: "TilePrinter", n: Node) -> Text:
    """An operation on interleaved pairs, which its function has along the columns."""
    a, b = n.args
    if n["axis"] == 0:
        return Text(f"tl.trans({n.op}({_trans(p, a)}, {_trans(p, b)}))")
    return Text(f"{n.op}({p.numeric(a).text}, {p.numeric(b).text})")


def _level_mask(p: "TilePrinter", n: Node) -> Text:
    operands, flags = level_operands(n), f"{p.frame.levels()}, level, REVERSE={n['reverse']}"
    if operands is None:
        return Text(f"level_mask({p.value(n.args[0]).text}, {flags})")
    queries, keys, weights = operands
    both = f"{p.factor(queries, keys)}, {p.factor(keys, queries)}"
    types = "PRODUCT=PRODUCT, PRECISION=PRECISION"
    if any(map(is_precise, n.args[0].args)):
        weight = "1.0" if weights is None else p.value(weights).text
        return Text(f"precise_level_product({both}, {weight}, {flags}, {types})")
    if weights is None:
        return Text(f"level_product({both}, {flags}, {types})")
    return Text(f"weighted_level_product({both}, {p.value(weights).text}, {flags}, {types})")


def _rotate(p: "TilePrinter", n: Node) -> Text:
    theta, a = n.args
    if n["axis"] == 0:
        return Text(f"tl.trans(rotate({_trans(p, theta)}, {_trans(p, a)}, INVERSE={n['inverse']}))")
    return Text(f"rotate({p.numeric(theta).text}, {p.numeric(a).text}, INVERSE={n['inverse']})")


def _scan(p: "TilePrinter", n: Node) -> Text:
    args, kind = ", ".join(p.numeric(a).text for a in n.args), f'KIND="{n["kind"]}"'
    if n["reverse"] and p.frame.holds_columns(n):
        return Text(f"scan_columns_back({args}, {kind}, PRODUCT=PRODUCT)")
    return Text(f"scan_rows({args}, {kind}, REVERSE={n['reverse']}, PRODUCT=PRODUCT)")


def _shift(p: "TilePrinter", n: Node) -> Text:
    function = "shift_columns" if p.frame.holds_columns(n) else "shift_rows"
    return Text(f"{function}({', '.join(p.numeric(a).text for a in n.args)}, REVERSE={n['reverse']})")


def _edge_row(p: "TilePrinter", n: Node) -> Text:
    row = f"edge_row({p.numeric(n.args[0]).text}, REVERSE={n['reverse']})"
    return Text(f"tl.sum({row})" if n.type.cols == ONE else row)


def _place_row(p: "TilePrinter", n: Node) -> Text:
    return Text(f"place_row({p.numeric(n.args[0]).text}, CHUNK, REVERSE={n['reverse']})")


def _lanes(n: Node, lane_axis: str) -> tuple[str, str]:
    """The part of a matrix that the narrower side of a spread or fold has, and the block of the other part."""
    return ("outer", "inner")[n["part"]], block_name(axis_parts(lane_axis)[1 - n["part"]])


def _spread(p: "TilePrinter", n: Node) -> Text:
    part, count = _lanes(n, n.type.cols)
    return Text(f"spread_{part}({p.numeric(n.args[0]).text}, {count})")


def _fold(p: "TilePrinter", n: Node) -> Text:
    part, count = _lanes(n, n.args[0].type.cols)
    return Text(f"fold_{part}({p.summand(n.args[0], 1)}, {count})")


def _trans(p: "TilePrinter", a: Node) -> str:
    return f"tl.trans({p.numeric(a).text})"


def _const(p: "TilePrinter", n: Node) -> Text:
    raise IRError("constants are printed where they are used")


RULES: dict[str, Callable[["TilePrinter", Node], Text]] = {
    "load": _load,
    "const": _const,
    "dot": _dot,
    "transpose": _transpose,
    "broadcast": _broadcast,
    "sum": _reduce("tl.sum", 0.0),
    "reduce_max": _reduce("tl.max", float("-inf")),
    "cumsum": _cumsum,
    "segment_sum": _segment_sum,
    "mask": _mask,
    "valid_rows": _valid_rows,
    "unit_inverse": _unit_inverse,
    "pair_distance": _pair_distance,
    "pair_collect": _pair_collect,
    "cross_pairs": _pairs,
    "turn_pairs": _pairs,
    "level_mask": _level_mask,
    "level_sum": print_level_sum,
    "rotate": _rotate,
    "scan": _scan,
    "shift": _shift,
    "edge_row": _edge_row,
    "place_row": _place_row,
    "spread": _spread,
    "fold": _fold,
    **dict.fromkeys(POINTWISE, _pointwise),
}
