"""What importing costs, and which part may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "triton", "sympy", "networkx", "numpy", "lark", "rich", "matplotlib")
SIBLINGS = ("frontends", "passes", "backends")
# In the order of imports: a room imports itself and rooms before it.
ROOMS = (
    "analysis",
    "expressions",
    "masks",
    "segments",
    "stabilisation",
    "recognition",
    "tiles",
    "kernels",
    "gradients",
    "pairs",
    "forms",
)
# What running a call takes, in the same order; what a call may need later is imported when it does.
CALL_ROOMS = ("calls", "states", "torch_side")


def python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def sources(folder: str) -> list[Path]:
    return [p for p in (ROOT / folder).rglob("*.py") if folder != "smir" or not any(s in p.parts for s in SIBLINGS)]


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def imports_at_once(path: Path) -> set[str]:
    """The modules that importing a file imports."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}


def test_import_smir_loads_nothing_heavy():
    loaded = python(f"import sys, smir; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]"


def test_import_smir_takes_less_than_300_ms():
    script = "import time; t = time.perf_counter(); import smir; print(time.perf_counter() - t)"
    assert min(float(python(script)) for _ in range(3)) < 0.3


def test_running_a_numpy_mixer_loads_neither_torch_nor_triton():
    script = (
        "import sys, smir; m = smir.compile('retnet', form='chunked'); m(**smir.sample(m.spec)); "
        "print('torch' in sys.modules, 'triton' in sys.modules)"
    )
    assert python(script) == "False False"


def test_every_public_name_exists():
    assert python("import smir; [getattr(smir, n) for n in dir(smir)]; print('ok')") == "ok"


@pytest.mark.parametrize("folder", SIBLINGS)
def test_siblings_do_not_import_each_other(folder: str):
    others = tuple(f"smir.{s}" for s in SIBLINGS if s != folder)
    upwards = (
        *("smir.compilation", "smir.compiler", "smir.derivatives", "smir.compiled", "smir.cli", "smir.verify"),
        *("smir.explain", "smir.running", *(f"smir.{room}" for room in CALL_ROOMS)),
    )
    for path in sources(folder):
        wrong = {m for m in imports(path) if m.startswith((*others, *upwards))}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_rooms_of_passes_import_only_the_rooms_before_them():
    folders = {p.name for p in (ROOT / "passes").iterdir() if (p / "__init__.py").is_file()}
    assert folders == set(ROOMS)
    assert [p.name for p in (ROOT / "passes").glob("*.py")] == ["__init__.py"]
    for position, room in enumerate(ROOMS):
        for path in sources(f"passes/{room}"):
            rooms = {m.split(".")[2] for m in imports(path) if m.startswith("smir.passes.")}
            assert rooms <= set(ROOMS[: position + 1]), f"{path.relative_to(ROOT)} imports {rooms}"
            assert "smir.passes" not in imports(path), f"{path.relative_to(ROOT)} imports a room without its name"


@pytest.mark.parametrize("room", CALL_ROOMS)
def test_rooms_of_a_call_are_loaded_with_the_rooms_before_them_only(room: str):
    above = (
        "smir.running",
        "smir.compiled",
        "smir.cli",
        *(f"smir.{r}" for r in CALL_ROOMS[CALL_ROOMS.index(room) + 1 :]),
    )
    for path in sources(f"smir/{room}"):
        wrong = {m for m in imports_at_once(path) if m.startswith(above)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_ir_imports_nothing_above_it():
    for path in sources("smir/ir"):
        wrong = {
            m
            for m in imports(path)
            if m.startswith("smir.") and not m.startswith(("smir.ir", "smir.errors", "smir.source"))
        }
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("triton", ("backends/triton_gpu",)),
        ("torch", ("backends", "smir/calls/binding", "smir/torch_side", "smir/nn", "smir/tuning", "smir/bench")),
    ],
)
def test_only_backends_import(package: str, homes: tuple[str, ...]):
    for folder in ("smir", *SIBLINGS):
        for path in sources(folder):
            inside = path.relative_to(ROOT).as_posix()
            if any(m.split(".")[0] == package for m in imports(path)):
                assert inside.startswith(homes), f"{inside} imports {package}"


def test_no_file_is_longer_than_700_lines():
    for folder in ("smir", *SIBLINGS, "tests", "examples", "benchmarks"):
        for path in sources(folder):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 700, path
