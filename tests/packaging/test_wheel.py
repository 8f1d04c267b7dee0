"""The wheel holds the whole package, whichever way it is built."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKS = {"smir/frontends": "frontends", "smir/passes": "passes", "smir/backends": "backends"}
SUFFIXES = {".py", ".smir", ".lark", ".typed", ".json"}


def tree_files() -> set[str]:
    """What the tree holds of the package, by the path under which it is installed."""
    found = set()
    for installed, folder in {"smir": "smir", **LINKS}.items():
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT / folder).as_posix()
            linked = any(f"{installed}/{inside}".startswith(link + "/") for link in LINKS) and installed == "smir"
            if path.is_file() and path.suffix in SUFFIXES and not linked:
                found.add(f"{installed}/{inside}")
    return found


def run(*command: object, cwd: Path) -> None:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the tree, so that building leaves nothing behind."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("smir", "frontends", "passes", "backends"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, copy, cwd=copy)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel_of_sdist(copy: Path, tmp_path_factory) -> Path:
    """What `build` makes by default: an sdist, and the wheel from that."""
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=copy)
    return next(out.glob("*.whl"))


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n) for n in archive.namelist() if ".dist-info/" not in n}


def test_wheel_holds_exactly_the_tree(wheel: Path):
    assert set(contents(wheel)) == tree_files()


def test_wheel_of_the_sdist_is_the_same(wheel: Path, wheel_of_sdist: Path):
    assert contents(wheel_of_sdist) == contents(wheel)


def test_wheel_runs_from_elsewhere(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import smir; assert smir.compile('retnet').forms"
    )
    (tmp_path / "backends").mkdir()  # a user's own folder of that name must not get in the way
    run(sys.executable, "-c", script, cwd=tmp_path)


def test_every_package_is_listed():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {str(Path(f).parent).replace("/", ".") for f in tree_files() if f.endswith((".py", ".smir"))}
    assert listed == folders


@pytest.mark.parametrize(("link", "folder"), LINKS.items())
def test_links_point_to_the_folders_beside(link: str, folder: str):
    assert (ROOT / link).is_symlink()
    assert (ROOT / link).readlink().as_posix() == f"../{folder}"
