"""Printed packages on disk: written once under their content's hash, whole or not at all, then imported."""

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from smir.caches import CACHE_VARIABLE, cache_root
from smir.errors import BackendError


def content_hash(sources: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, text in sorted(sources.items()):
        digest.update(f"{name}\0{len(text)}\0{text}".encode())
    return digest.hexdigest()[:24]


def write_package(sources: Mapping[str, str], root: Path | None = None) -> Path:
    """The folder that holds these files, written now if it isn't there or was damaged. Raises BackendError."""
    folder = (root or cache_root()) / "kernels" / f"smir_{content_hash(sources)}"
    if _is_whole(folder, sources):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new_") as fresh:
            for name, text in sources.items():
                (Path(fresh) / name).write_text(text, encoding="utf-8")
            _replace(Path(fresh), folder, sources)
    except OSError as error:
        hint = f"set {CACHE_VARIABLE} to a folder that can be written"
        raise BackendError(f"can't write kernels to {folder}: {error}", hint=hint) from error
    return folder


def _replace(fresh: Path, folder: Path, sources: Mapping[str, str]) -> None:
    """Moves a complete folder into place; another process may have done so first."""
    if folder.exists() and not _is_whole(folder, sources):
        for name in sources:
            os.replace(fresh / name, folder / name)
        return
    package = fresh / "package"
    package.mkdir()
    for name in sources:
        shutil.move(fresh / name, package / name)
    try:
        os.rename(package, folder)
    except OSError:
        if not _is_whole(folder, sources):
            raise


def _is_whole(folder: Path, sources: Mapping[str, str]) -> bool:
    try:
        return all((folder / name).read_text(encoding="utf-8") == text for name, text in sources.items())
    except (OSError, UnicodeDecodeError):
        return False


def import_package(folder: Path) -> ModuleType:
    """The package in this folder, imported once per process under its folder's name."""
    if folder.name in sys.modules:
        return sys.modules[folder.name]
    spec = importlib.util.spec_from_file_location(
        folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise BackendError(f"no package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[folder.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[folder.name]
        raise
    return module
