"""States that drive others: the summands of an update that are another state's whole value, times a number."""

from collections.abc import Iterator, Mapping

from smir.ir.graph import Node
from smir.ir.operator import AFTER, BACKWARD, BEFORE, Drive
from smir.passes.expressions.algebra import Piece, pieces, product, tidy
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.recognition.linear_form import Linear


def driving_state(piece: Piece) -> Node | None:
    """The `state` leaf, possibly transposed, that a summand of an update is a multiple of."""
    (value,) = piece.dense if len(piece.dense) == 1 else (None,)
    inner = value.args[0] if value is not None and value.op == "transpose" else value
    return value if inner is not None and inner.op == "state" else None


def drive(piece: Piece, value: Node, directions: Mapping[str, str]) -> Drive:
    """The summand as a Drive. Raises BrokenLaw for one that is scaled along an axis."""
    atom = _atom(value)
    if piece.diagonal or len(piece.scalars) + 1 != len(piece.factors):
        raise BrokenLaw("a state that drives another one, scaled along an axis", value,
                        "chunked forms need `c[t] * M[t]` with a number c[t]; step form only")  # fmt: skip
    return Drive(atom["name"], moment(atom, directions[atom["name"]]), tidy(product(piece.scalars)))


def moment(atom: Node, direction: str) -> str:
    """Whether a `state` leaf is the state AFTER or BEFORE its token. Raises BrokenLaw for any other one."""
    if atom["offset"] == 0:
        return AFTER
    if atom["offset"] != (1 if direction == BACKWARD else -1):
        raise BrokenLaw("a read-out away from the current step", atom, "chunked forms read S[t] and S[t-1]")
    return BEFORE


def driving(form: Linear) -> Iterator[tuple[str, bool]]:
    """The states that drive an update, each with whether it is their transpose that does."""
    for piece in pieces(form.const) if form.const is not None else ():
        value = driving_state(piece)
        if value is not None:
            yield _atom(value)["name"], value.op == "transpose"


def _atom(value: Node) -> Node:
    return value.args[0] if value.op == "transpose" else value
