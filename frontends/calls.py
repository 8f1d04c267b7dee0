"""Which function or mask a call means, by name and number of arguments."""

from smir.errors import SpecTypeError
from smir.frontends import syntax
from smir.frontends.functions import FUNCTIONS, Function
from smir.frontends.masks import MASKS, Mask


def choose_function(call: syntax.Call) -> Function:
    """The function with this many arguments. Raises SpecTypeError."""
    candidates = FUNCTIONS[call.function.name]
    for function in candidates:
        if len(function.kinds) == len(call.args):
            return function
    usage = " or ".join(f"`{f.signature}`" for f in candidates)
    raise _arity(call, sorted({len(f.kinds) for f in candidates}), usage)


def choose_mask(call: syntax.Call) -> Mask:
    """The mask of that name, if the call has its number of arguments. Raises SpecTypeError."""
    mask = MASKS[call.function.name]
    if mask.arity != len(call.args) or not mask.arity:
        raise _arity(call, [mask.arity], f"`{mask.signature}`")
    return mask


def _arity(call: syntax.Call, expected: list[int], usage: str) -> SpecTypeError:
    count = " or ".join(map(str, expected)) if expected != [0] else "no"
    plural = "" if expected == [1] else "s"
    message = f"`{call.function.name}` takes {count} argument{plural}, found {len(call.args)}"
    return SpecTypeError(message, call.span, f"write {usage}")
