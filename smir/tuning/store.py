"""Tuned configurations on disk: one file per mixer and device, replaced whole, checked when read.

A file that isn't what was written (cut off, edited, of another version) counts as absent and is replaced by the next
result. Processes take turns by a lock that the system releases when its holder dies, so that none loses the results
of another.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smir.caches import CACHE_VARIABLE, cache_root
from smir.errors import BackendError
from smir.tuning.settings import Family

FORMAT = 1
LOCK_SECONDS = 30


@dataclass(frozen=True)
class Identity:
    """What a measurement belongs to: a mixer (hash of its IR), a backend, the type that it computes products in, a
    device (with its number of processors), and the versions of what made the code."""

    mixer: str
    backend: str
    dtype: str
    device: str
    compiler: str
    smir: str

    def hash(self) -> str:
        return hashlib.sha256(_canonical(asdict(self)).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Stored:
    """What a file held; `problem` says why it was passed over."""

    family: Family
    path: Path
    problem: str | None = None


class Store:
    """The files of one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_root() / "tuned"

    def path(self, who: Identity) -> Path:
        return self.folder / f"{re.sub(r'[^a-z0-9]+', '_', who.device.lower()).strip('_')}-{who.hash()}.json"

    def read(self, who: Identity) -> Stored:
        """Never raises: what can't be read isn't there."""
        path = self.path(who)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Stored(Family(), path)
        except (OSError, UnicodeDecodeError) as error:
            return Stored(Family(), path, f"can't be read: {error}")
        try:
            return Stored(_checked(json.loads(text), who), path)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return Stored(Family(), path, f"damaged: {type(error).__name__}: {error}")

    def update(self, who: Identity, change: Callable[[Family], Family]) -> Family:
        """Reads, changes and replaces a file, one process at a time. Raises BackendError when it can't be written."""
        from filelock import FileLock, Timeout

        path = self.path(who)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
                found = change(self.read(who).family)
                _replace(path, _canonical(_sealed(found, who)))
                return found
        except Timeout as error:
            raise BackendError(f"another process has held {path.name} for {LOCK_SECONDS} s",
                               hint="end it, or try again") from error  # fmt: skip
        except OSError as error:
            hint = f"set {CACHE_VARIABLE} to a folder that can be written"
            raise BackendError(f"can't write tuned configurations to {path}: {error}", hint=hint) from error


def _sealed(family: Family, who: Identity) -> dict[str, Any]:
    body = {"for": asdict(who), **family.to_json()}
    return {"format": FORMAT, "checksum": _checksum(body), "body": body}


def _checked(found: Any, who: Identity) -> Family:
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']!r}")
    body = found["body"]
    if found["checksum"] != _checksum(body):
        raise ValueError("the checksum differs")
    if body["for"] != asdict(who):
        raise ValueError("made for something else")
    return Family.from_json(body)


def _checksum(body: Any) -> str:
    return hashlib.sha256(_canonical(body).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=1)


def _replace(path: Path, text: str) -> None:
    """Readers see the old file or the new one; a writer that dies leaves at most a temporary file behind."""
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".new_", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
