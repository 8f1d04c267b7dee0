"""What this device reaches: bytes a second of a copy, operations a second of a matrix product, measured now."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

COPIED = {"cuda": 1 << 30, "cpu": 1 << 26}
MATRIX = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True)
class Ceilings:
    """Bytes a second (read and written) and operations a second in one type."""

    device: str
    bytes_per_second: float
    flops_per_second: float
    dtype: str

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure_ceilings(device: str, dtype: str, seconds: Callable[[Callable[[], object]], float]) -> Ceilings:
    """`seconds(run)` measures a function on the device."""
    import torch

    kind = device.partition(":")[0]
    source = torch.ones(COPIED[kind], dtype=torch.int8, device=device)
    copy = torch.empty_like(source)
    copied = 2 * source.numel() / seconds(lambda: copy.copy_(source))
    size = MATRIX[kind]
    a, b = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
    product = 2 * size**3 / seconds(lambda: a @ b)
    name = torch.cuda.get_device_name(device) if kind == "cuda" else "cpu"
    return Ceilings(name, copied, product, dtype)
