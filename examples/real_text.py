"""Real text that every machine with Python has: Python's licence and the documentation strings of its library."""

import inspect
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

MODULES = (
    "argparse ast asyncio base64 bisect calendar cmd codecs collections configparser contextlib copy csv ctypes "
    "datetime decimal difflib dis doctest email enum fileinput fractions functools gettext glob gzip heapq http.client "
    "inspect io itertools json locale logging math multiprocessing operator optparse os pathlib pickle pprint random "
    "re shutil smtplib socket sqlite3 statistics string subprocess tarfile tempfile textwrap threading timeit tokenize "
    "typing unittest urllib.parse uuid weakref zipfile"
).split()


def real_text(length: int) -> bytes:
    """The first `length` bytes (ASCII) of the licence followed by documentation strings, the same on every run."""
    parts, size = [], 0
    for part in _parts():
        parts.append(part)
        size += len(part)
        if size >= length:
            break
    return b"".join(parts)[:length]


def _parts() -> Iterator[bytes]:
    seen = set()
    for text in _texts():
        ascii_text = text.strip().encode("ascii", "ignore") + b"\n\n"
        if ascii_text not in seen:
            seen.add(ascii_text)
            yield ascii_text


def _texts() -> Iterator[str]:
    licence = Path(os.__file__).with_name("LICENSE.txt")
    yield licence.read_text(encoding="utf-8") if licence.is_file() else sys.copyright
    for name in MODULES:
        module = import_module(name)
        yield from (doc for doc in _docstrings(module) if isinstance(doc, str))


def _docstrings(module: ModuleType) -> Iterator[object]:
    yield module.__doc__
    for _, value in sorted(vars(module).items()):
        if not (inspect.isclass(value) or inspect.isfunction(value)) or value.__module__ != module.__name__:
            continue
        yield value.__doc__
        if inspect.isclass(value):
            for _, method in sorted(vars(value).items()):
                yield method.__doc__ if inspect.isfunction(method) else None
