"""Under `torch.autocast`, a call takes its vectors in autocast's type, as `scaled_dot_product_attention` does.

Vectors are inputs with dimensions and without a promised range: what products are made of. Gates, parameters and states
stay as they are, since a decay of 1 - 1/512 is 1 in bfloat16; so do float64 vectors, as everywhere under autocast.
"""

import sys
from typing import Any

from smir.ir.interval import REAL
from smir.ir.mixer import Mixer

Array = Any


def is_autocast() -> bool:
    """Whether autocast is on for any device; never without torch."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch._C._is_any_autocast_enabled())


def vectors(mixer: Mixer) -> tuple[str, ...]:
    """The names of what is cast."""
    return tuple(d.name for d in mixer.inputs if d.dims and d.range == REAL)


def cast(mixer: Mixer, given: dict[str, Array]) -> dict[str, Array]:
    """A call's arguments as they are under autocast."""
    names = vectors(mixer)
    return {name: in_autocast_type(a) if name in names else a for name, a in given.items()}


def in_autocast_type(array: Array) -> Array:
    """A float tensor in the type that autocast has for its device; anything else as it is."""
    torch = sys.modules["torch"]
    if not isinstance(array, torch.Tensor) or array.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return array
    kind = array.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return array
    return array.to(torch.get_autocast_dtype(kind))
