"""Heads before tokens: calls whose inputs and output are `[B, H, T, dims...]`, as attention layers have them.

Nothing is copied: what runs are views with the axes at their usual places, `[B, T, H, dims...]`, and what comes back is
a view again. States, single tokens of a step and parameters have no order to choose.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from smir.calls.array_kinds import is_traced
from smir.errors import ArgumentError
from smir.ir.mixer import Mixer

if TYPE_CHECKING:
    from smir.running import Calls

TOKENS_FIRST, HEADS_FIRST = "BTHD", "BHTD"
LAYOUTS = (TOKENS_FIRST, HEADS_FIRST)
# Before the dimensions of an input: batch, tokens and heads.
LEADING = 3


def check_layout(layout: object) -> None:
    """Raises ArgumentError for what is no layout."""
    if layout not in LAYOUTS:
        hint = f"{TOKENS_FIRST!r} for [B, T, H, dims...], {HEADS_FIRST!r} for [B, H, T, dims...]"
        raise ArgumentError(f"there is no layout {layout!r}", hint=hint)


def input_ranks(mixer: Mixer, positional: int, named: Iterable[str]) -> tuple[int, ...]:
    """How many axes the values of a call have, those by position and then by name, if they are inputs with heads; 0 for
    all others."""
    names = [d.name for d in mixer.declarations][:positional]
    ranks = {d.name: LEADING + len(d.dims) for d in mixer.inputs}
    unknown = [0] * (positional - len(names))
    return (*(ranks.get(name, 0) for name in names), *unknown, *(ranks.get(name, 0) for name in named))


def with_heads_first(
    calls: "Calls", layout: str, call: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]
) -> Any:
    """`call`, which takes tokens first and returns y or y with the states, for arguments with heads first.

    Raises what it raises, and ArgumentError for another layout.
    """
    check_layout(layout)
    if layout == TOKENS_FIRST:
        return call(*args, **named)
    if is_traced():
        from smir.torch_side.operators import ranks_of

        return _turned_call(call, ranks_of(calls.handle, len(args), tuple(named)), args, named)
    try:
        return _turned_call(call, input_ranks(calls.spec, len(args), named), args, named)
    except ArgumentError as error:
        note = f"layout {HEADS_FIRST}: shapes are said with tokens first, [B, T, H, dims...]"
        hint = f"{error.hint}; {note}" if error.hint else note
        raise ArgumentError(error.message, error.span, hint) from None


def _turned_call(
    call: Callable[..., Any], ranks: tuple[int, ...], args: tuple[Any, ...], named: Mapping[str, Any]
) -> Any:
    given = list(zip((*args, *named.values()), ranks, strict=True))
    values = [_turned(value, rank) for value, rank in given]
    found = call(*values[: len(args)], **dict(zip(named, values[len(args) :], strict=True)))
    if not any(_has_heads(value, rank) for value, rank in given):
        return found
    return (found[0].swapaxes(1, 2), *found[1:]) if isinstance(found, tuple) else found.swapaxes(1, 2)


def _has_heads(value: Any, rank: int) -> bool:
    return rank > 0 and getattr(value, "ndim", 0) == rank


def _turned(value: Any, rank: int) -> Any:
    return value.swapaxes(1, 2) if _has_heads(value, rank) else value
