"""What the tuner varies in numpy programs: the tokens of a chunk. There are no launch options."""

import os
import platform
import time
from collections.abc import Callable

import numpy as np

from smir.ir.tile_program import STEP

CHUNKS = (16, 32, 64, 128, 256, 512)
REPEATS = 3


def device_label(device: str) -> str:
    """The processor's architecture and its number of cores."""
    return f"{platform.machine()} processor, {os.cpu_count()} cores"


def compiler_label() -> str:
    return f"numpy {'.'.join(np.__version__.split('.')[:2])}"


def chunks(form: str, usual: int, tokens: int) -> tuple[int, ...]:
    """Chunk sizes worth a measurement, the usual one first. None is longer than the sequence."""
    return (1,) if form == STEP else (usual, *(c for c in CHUNKS if c != usual and c <= tokens))


def seconds(run: Callable[[], object]) -> float:
    """The shortest of a few runs."""
    return min(_timed(run) for _ in range(REPEATS))


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
