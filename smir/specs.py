"""Where a spec's text comes from: the library, a file, or the caller."""

import re
from difflib import get_close_matches
from pathlib import Path

from smir.errors import ArgumentError, SpecNameError, SpecSyntaxError
from smir.library import load
from smir.library import names as library_names
from smir.source import Source

__all__ = ["find_spec", "library_names"]

SUFFIX = ".smir"
LISTING = "`smir list` shows the library; a spec's own text begins with `mixer`"
_TEXT = re.compile(r"\s*mixer\s")


def find_spec(spec: str | Path) -> Source:
    """The source that `spec` means: the text itself, a library name, or a path.

    A string with a newline, or one that begins with `mixer`, is the text. Raises SpecNameError when nothing is found
    and SpecSyntaxError when a file isn't text.
    """
    if isinstance(spec, Path):
        return _read(spec)
    if not isinstance(spec, str):
        raise ArgumentError(f"a spec is text, a path or a library name, not a {type(spec).__name__}", hint=LISTING)
    if "\n" in spec or _TEXT.match(spec):
        return Source("<spec>", spec)
    if spec in library_names():
        return load(spec)
    if spec.endswith(SUFFIX) or "/" in spec or "\\" in spec or _is_file(spec):
        return _read(Path(spec))
    raise _unknown(spec)


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # too long for a name
        return False


def _read(path: Path) -> Source:
    try:
        return Source(str(path), path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SpecSyntaxError(f"{path} is not UTF-8 text", hint="a spec is a short text file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecNameError(f"can't read the spec {_short(str(path))}: {reason}", hint=_nearest(path.stem)) from error


def _unknown(name: str) -> SpecNameError:
    return SpecNameError(
        f"no spec of the library is called {_short(name)!r}, and no such file exists", hint=_nearest(name)
    )


def _nearest(name: str) -> str:
    close = get_close_matches(name.lower(), library_names(), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}? {LISTING}" if close else LISTING


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
