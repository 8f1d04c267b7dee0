"""Names: which may be introduced, and what an unknown one was probably meant to be."""

import difflib
import keyword
from collections.abc import Iterable

from smir.errors import SpecNameError
from smir.frontends.limits import MAX_NAME
from smir.source import Span

# Keyword arguments of a compiled mixer's call: an input of that name could not be passed.
CALL_KEYWORDS = frozenset(
    "state return_state check_ranges cu_seqlens inplace several layout form backend chunk self".split()
)
TIME_INDEX, LENGTH, OUTPUT = "t", "T", "y"

_INSTEAD = {"lambda": "lam"}


def check_spelling(name: str, span: Span) -> None:
    """Raises SpecNameError for a name that generated programs could not use as it stands.

    Names reach emitted source, so they are plain identifiers, no keyword of Python, and leave the
    underscores at both ends to the compiler.
    """
    if len(name) > MAX_NAME:
        raise SpecNameError(f"a name of {len(name)} characters, more than {MAX_NAME}", span, "choose a shorter name")
    if keyword.iskeyword(name):
        instead = _INSTEAD.get(name, f"{name}_value" if name.islower() else name.lower())
        message = f"`{name}` is a keyword of Python, and names become Python names"
        raise SpecNameError(message, span, f"write `{instead}`")
    if name.startswith("_") or name.endswith("_") or "__" in name:
        hint = f"write `{'_'.join(filter(None, name.split('_'))) or 'x'}`"
        message = f"`{name}`: underscores stand only between letters; other spellings belong to the compiler"
        raise SpecNameError(message, span, hint)


def check_value_name(name: str, span: Span, reserved: Iterable[str]) -> None:
    """Raises SpecNameError when an input, parameter, state, constant or definition may not have this name."""
    if name in (TIME_INDEX, LENGTH):
        meaning = "the time index" if name == TIME_INDEX else "the length of the sequence"
        raise SpecNameError(f"`{name}` is reserved: it is {meaning}", span, "choose another name")
    if name in CALL_KEYWORDS:
        hint = "choose another name, for example by a suffix"
        raise SpecNameError(f"`{name}` is reserved: it is a keyword of the mixer's call", span, hint)
    if name in reserved:
        hint = f"choose another name; `{name}(...)` keeps its meaning"
        raise SpecNameError(f"`{name}` is reserved: it is a function or a mask", span, hint)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one probably misspells."""
    candidates = sorted(set(known))
    by_case = [k for k in candidates if k.lower() == name.lower()]
    found = by_case or difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return found[0] if found else None


def listing(names: Iterable[str]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{n}`" for n in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]])) if quoted else "none"
