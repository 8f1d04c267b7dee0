"""Processes in which kernels run: Triton decides on its first import whether it interprets or compiles."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import pytest

Submit = Callable[..., Future[Any]]


def _prepare(environment: dict[str, str]) -> None:
    os.environ.update(environment)


@contextmanager
def _pool(**environment: str) -> Iterator[Submit]:
    with ProcessPoolExecutor(1, get_context("spawn"), _prepare, (environment,)) as pool:
        yield pool.submit


@pytest.fixture(scope="session")
def kernels_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def interpreted(kernels_folder: str) -> Iterator[Submit]:
    """Submits work to a process in which kernels run in Triton's interpreter."""
    with _pool(TRITON_INTERPRET="1", SMIR_CACHE_DIR=kernels_folder) as submit:
        yield submit


@pytest.fixture(scope="session")
def compiled(kernels_folder: str, pytestconfig: pytest.Config) -> Iterator[Submit]:
    """Submits work to a process in which kernels are compiled; what it compiles is kept for all later processes."""
    assert pytestconfig.cache is not None
    compilations = str(pytestconfig.cache.mkdir("triton"))
    with _pool(TRITON_INTERPRET="0", SMIR_CACHE_DIR=kernels_folder, TRITON_CACHE_DIR=compilations) as submit:
        yield submit
