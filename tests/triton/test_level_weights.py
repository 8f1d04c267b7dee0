"""The constant matrices of a chunk's levels, against what the reference computes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from smir.backends.numpy_reference import tile_ops as ops
from smir.backends.triton_gpu import level_tiles
from smir.backends.triton_gpu.level_weights import (
    COLLECTED,
    DIRECTIONS,
    DISTANCE,
    KINDS,
    LOWER,
    NEIGHBOURS,
    UPPER,
    level_weights,
)

CHUNK = 16


def matrix(index: int) -> np.ndarray:
    return level_weights(CHUNK, torch.device("cpu"))[index].float().numpy()


@pytest.mark.parametrize("level", range(4))
def test_matrices_of_a_level(level: int) -> None:
    one, ones, size = np.eye(CHUNK), np.ones((CHUNK, CHUNK)), 1 << level
    np.testing.assert_array_equal(matrix(level * KINDS + LOWER), ops.level_mask(ones, size, False))
    np.testing.assert_array_equal(matrix(level * KINDS + UPPER), ops.level_mask(ones, size, True))
    both = matrix(level * KINDS + LOWER) + matrix(level * KINDS + UPPER)
    np.testing.assert_array_equal(matrix(level * KINDS), both)
    for number, (reverse, exclusive) in enumerate(DIRECTIONS):
        distance = ops.pair_distance(one, size, reverse, exclusive)
        np.testing.assert_array_equal(matrix(level * KINDS + DISTANCE + number), distance)
        collected = ops.pair_collect(one, size, reverse, exclusive)
        np.testing.assert_array_equal(matrix(level * KINDS + COLLECTED + number), collected)


@pytest.mark.parametrize("number", range(4))
def test_matrices_of_a_chunk(number: int) -> None:
    reverse, exclusive = DIRECTIONS[number]
    expected = ops.cumsum(np.eye(CHUNK), reverse, exclusive)
    np.testing.assert_array_equal(matrix(4 * KINDS + number), expected)


def test_kernels_count_the_matrices_as_they_are_made() -> None:
    """Triton's functions can't import the numbers."""
    text = Path(level_tiles.__file__).read_text(encoding="utf-8")
    assert f"(level * {KINDS} + KIND)" in text
    assert f"level_weights(levels_ptr, {UPPER} if REVERSE else {LOWER}, level" in text
    assert f"level_weights(levels_ptr, {NEIGHBOURS}, level" in text
    for first in (DISTANCE, COLLECTED):
        assert f"level_weights(levels_ptr, {first} + 2 * REVERSE + EXCLUSIVE, level" in text


def test_matrices_are_made_once() -> None:
    assert level_weights(CHUNK, torch.device("cpu")) is level_weights(CHUNK, torch.device("cpu"))
