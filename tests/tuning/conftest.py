"""A tuner's home of its own for every test."""

from pathlib import Path

import pytest

import smir
from smir.compilation import Compilation
from smir.tuning.arguments import Shape
from smir.tuning.problem import Problem
from smir.tuning.settings import Bucket, KernelSetting, Setting
from smir.tuning.store import Identity, Store

WHO = Identity("hash", "triton", "bfloat16", "Test GPU, 8 processors", "triton 3.6", "0.1.0")
WHERE = Bucket(("k", "q"), (("K", 64), ("V", 64)), 16, "long")


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("SMIR_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("SMIR_TUNING", raising=False)
    return tmp_path


@pytest.fixture
def store(home: Path) -> Store:
    return Store()


def setting(milliseconds: float, chunk: int = 64, **options: int) -> Setting:
    kernels = (KernelSetting("output", "0123456789abcdef", options),) if options else ()
    return Setting(chunk, milliseconds, kernels)


def compilation(name: str = "scalar_decay") -> Compilation:
    return smir.compile(name).compilation


def problem(done: Compilation, backend: str = "numpy", tokens: int = 600, wanted: tuple[str, ...] = ()) -> Problem:
    shape = Shape.even(done.spec, 1, tokens, 2, {"K": 16, "V": 16})
    return Problem.of_sizes(done, backend, shape, "float32", "cpu", wanted)
