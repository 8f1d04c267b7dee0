"""The specs that come with the package, one file each: `smir.compile("gla")` finds them here."""

from importlib.resources import files

from smir.errors import SpecNameError
from smir.source import Source

_SUFFIX = ".smir"


def names() -> tuple[str, ...]:
    """The library's mixers, sorted."""
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in files(__name__).iterdir() if f.name.endswith(_SUFFIX)))


def load(name: str) -> Source:
    """The text of a library spec. Raises SpecNameError for a name that the library doesn't have."""
    known = names()
    if name not in known:
        raise SpecNameError(f"the library has no mixer `{name}`", hint=f"it has {', '.join(known)}")
    return Source(name, files(__name__).joinpath(name + _SUFFIX).read_text(encoding="utf-8"))
