"""Which assembler makes machine code of Triton's kernels.

For Hopper and older GPUs Triton 3.5 and 3.6 use ptxas 12.8, which loses descriptors of matrix products' operands in
kernels with many products: they read outside the shared memory and die. The same package brings a newer ptxas for
newer GPUs, which makes those kernels right.
"""

import os

VARIABLE = "TRITON_PTXAS_PATH"
BROKEN = (12, 8)


def prepare_assembler() -> None:
    """Lets Triton use the newer of its two assemblers in this process, unless the user has chosen one."""
    import triton

    if VARIABLE in os.environ or _is_hip():
        return
    nvidia = triton.knobs.nvidia
    if _version(nvidia.ptxas.version) <= BROKEN < _version(nvidia.ptxas_blackwell.version):
        os.environ[VARIABLE] = nvidia.ptxas_blackwell.path


def _is_hip() -> bool:
    """Whether kernels are for AMD's GPUs, which need no ptxas."""
    import torch

    return torch.version.hip is not None


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
