"""Names in emitted source: checked, unique, and never a word that Python, torch or Triton needs."""

import builtins
import keyword
import re
from collections.abc import Iterable

from smir.errors import IRError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TAKEN = (
    frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins)) | {"tl", "triton", "torch"}
)
MAX_LENGTH = 40


def identifier(text: str) -> str:
    """The text itself if it is a plain ASCII identifier. Raises IRError: nothing else reaches emitted source."""
    if not _IDENTIFIER.match(text) or keyword.iskeyword(text):
        raise IRError(f"{text!r} is no name", hint="names are ASCII letters, digits and underscores")
    return text


def word(text: str) -> str:
    """A piece of an identifier made of any text: `K/2` becomes `K_over_2`."""
    spelled = text.replace("/", "_over_").replace("*", "_times_").replace("+", "_plus_").replace("-", "_minus_")
    plain = re.sub(r"[^A-Za-z0-9_]", "_", spelled)
    return plain if plain and not plain[0].isdigit() else f"d{plain}"


def comment(text: str) -> str:
    """Text that is safe behind a `#`: one line, printable."""
    return "".join(c if c.isprintable() else " " for c in text)


class Names:
    """Hands out names, each once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._used = set(_TAKEN) | set(taken)

    def new(self, wanted: str) -> str:
        """The wanted name, or the next free one after it."""
        base = identifier(wanted)[:MAX_LENGTH]
        name, count = base, 1
        while name in self._used:
            count += 1
            name = f"{base}_{count}"
        self._used.add(name)
        return name
