"""Constant matrices of zeros and ones for the binary levels of a chunk: kernels load them instead of making masks.

A mask made in registers is made of row and column numbers, which take registers through a whole loop over levels, and a
dozen instructions an element each time. Loaded, it goes straight to where a matrix product reads it.
"""

from functools import lru_cache

import torch

# What the matrices of one level are, in order; kernels count them too (`level_tiles.py`). Distances add up a row's
# tokens up to the boundary of its pair of blocks (exclusive: without its own); collected, a row adds up what is in the
# rows whose distance counts it.
DIRECTIONS = ((False, False), (False, True), (True, False), (True, True))
NEIGHBOURS, LOWER, UPPER, DISTANCE, COLLECTED = 0, 1, 2, 3, 7
KINDS = COLLECTED + len(DIRECTIONS)


@lru_cache(maxsize=64)
def level_weights(chunk: int, device: torch.device) -> torch.Tensor:
    """All matrices `[levels * kinds + 4, chunk, chunk]` in bfloat16, made once for a chunk size and device.

    Those of each level, and then those of running sums over the whole chunk.
    """
    row = torch.arange(chunk, device=device)
    i, m = row[:, None], row[None, :]
    levels = [w for level in range(chunk.bit_length() - 1) for w in _of_level(i, m, level)]
    sums = [_running_sum(i, m, reverse, exclusive) for reverse, exclusive in DIRECTIONS]
    return torch.stack([*levels, *sums]).to(torch.bfloat16)


def _running_sum(i: torch.Tensor, m: torch.Tensor, reverse: bool, exclusive: bool) -> torch.Tensor:
    """Ones for the rows m that a running sum has added up at row i."""
    first, last = (i, m) if reverse else (m, i)
    return first < last if exclusive else first <= last


def _of_level(i: torch.Tensor, m: torch.Tensor, level: int) -> list[torch.Tensor]:
    neighbours = (i ^ m) >> level == 1
    distances = [_distance(i, m, level, reverse, exclusive) for reverse, exclusive in DIRECTIONS]
    return [neighbours, neighbours & (i > m), neighbours & (i < m), *distances, *(d.T for d in distances)]


def _distance(i: torch.Tensor, m: torch.Tensor, level: int, reverse: bool, exclusive: bool) -> torch.Tensor:
    """Ones where row m lies between row i and the boundary of i's pair of blocks of 2**level rows."""
    odd = ((i >> level) & 1) == 1
    inwards = m < i if reverse else m <= i
    ones = ((i ^ m) >> level == 0) & (inwards == odd)
    return ones & (i != m) if exclusive else ones
