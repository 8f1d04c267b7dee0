"""What is known about the sizes when kernels are printed, and which options a launch takes by default."""

from collections.abc import Mapping
from dataclasses import dataclass

from smir.backends.triton_gpu.names import word
from smir.ir.kernel import GRID, Kernel, KernelPlan
from smir.ir.tile import CHUNK, ONE

SMALLEST_BLOCK = 16
DEFAULT_CHUNK = 64
DEFAULT_BLOCK = 64

Options = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Facts:
    """`exact`: dimension axes whose size is a power of two >= 16, so that blocks need no masks along them."""

    exact: frozenset[str] = frozenset()

    @staticmethod
    def of_sizes(sizes: Mapping[str, int]) -> "Facts":
        return Facts(frozenset(axis for axis, size in sizes.items() if size == padded(size)))


def padded(size: int) -> int:
    """The block that holds a whole axis: the next power of two, at least 16."""
    return max(SMALLEST_BLOCK, 1 << (size - 1).bit_length())


def dimension_axes(kernel: Kernel) -> tuple[str, ...]:
    """The axes that tiles of the kernel have, beside tokens and `1`, in order of their names."""
    return tuple(axis for axis, _ in kernel.roles if axis not in (CHUNK, ONE))


def block_name(axis: str) -> str:
    """The parameter that holds the block size of an axis."""
    return f"BLOCK_{word(axis)}"


def size_name(axis: str) -> str:
    """The parameter that holds the size of an axis."""
    return f"SIZE_{word(axis)}"


def default_options(plan: KernelPlan) -> Options:
    """Launch options of every kernel that need no measurement.

    Four warps of 32 were fastest or close to it for most tiles of 64 rows; wider state blocks than 64 columns
    leave a sequential kernel with too few programs.
    """
    return {kernel.name: _kernel_options(kernel) for kernel in plan.kernels}


def _kernel_options(kernel: Kernel) -> dict[str, int]:
    blocks = {block_name(axis): DEFAULT_BLOCK for axis, role in kernel.roles if role == GRID}
    return {**blocks, "num_warps": 4, "num_stages": 2}
