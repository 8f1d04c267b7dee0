"""What is known about the sizes of axes when kernels are printed, and how axes become blocks."""

from collections.abc import Mapping
from dataclasses import dataclass

from smir.backends.triton_gpu.names import word

SMALLEST_BLOCK = 16


@dataclass(frozen=True)
class Facts:
    """`exact`: dimension axes whose size is a power of two >= 16, so that blocks need no masks along them.

    `grouped`: inputs with fewer heads than others, each of which serves a group of neighbouring heads.
    `packed`: the batch is one row of sequences of different lengths, whose places a table tells (`packed.py`).
    `tiny`: no dimension is longer than the smallest block of a product.
    """

    exact: frozenset[str] = frozenset()
    grouped: frozenset[str] = frozenset()
    packed: bool = False
    tiny: bool = False

    @staticmethod
    def of_sizes(sizes: Mapping[str, int], heads: Mapping[str, int] | None = None, packed: bool = False) -> "Facts":
        """From the sizes of axes, and the heads of the inputs."""
        most = max((heads or {}).values(), default=1)
        grouped = frozenset(name for name, count in (heads or {}).items() if count != most)
        exact = frozenset(axis for axis, size in sizes.items() if size == padded(size))
        return Facts(exact, grouped, packed, is_tiny(sizes))


def is_tiny(sizes: Mapping[str, int]) -> bool:
    """Whether all dimension axes are so short that 16-bit operands of products don't pay.

    Tiles of such sizes are padded to the smallest block of a tensor core, so that shorter operands save next to
    nothing; and the errors of rounding them don't average out over so few terms.
    """
    return all(padded(size) == SMALLEST_BLOCK for size in sizes.values())


def padded(size: int, smallest: int = SMALLEST_BLOCK) -> int:
    """The block that holds a whole axis: the next power of two, at least 16 unless said otherwise."""
    return max(smallest, 1 << (size - 1).bit_length())


def block_name(axis: str) -> str:
    """The parameter that holds the block size of an axis."""
    return f"BLOCK_{word(axis)}"


def size_name(axis: str) -> str:
    """The parameter that holds the size of an axis."""
    return f"SIZE_{word(axis)}"
