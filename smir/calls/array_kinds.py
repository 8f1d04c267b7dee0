"""The two kinds of arrays a call may hold, numpy and torch, behind one set of functions. Never imports torch itself."""

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

Array = Any
NUMPY, TORCH = "numpy", "torch"
FLOATS = {NUMPY: ("float16", "float32", "float64"), TORCH: ("float16", "bfloat16", "float32", "float64")}
CPU = "cpu"


def kind_of(value: object) -> str | None:
    """`numpy`, `torch`, or None for anything else. Torch is looked for only where somebody has imported it.

    Subclasses of numpy arrays that compute differently (masked arrays, matrices) are something else.
    """
    if isinstance(value, np.ndarray):
        return None if isinstance(value, (np.ma.MaskedArray, np.matrix)) else NUMPY
    torch = sys.modules.get("torch")
    return TORCH if torch is not None and isinstance(value, torch.Tensor) else None


def dtype_of(array: Array) -> str:
    """The element type's name, the same for both kinds: `float32`, `bfloat16`, `int64`.."""
    return str(array.dtype.name) if isinstance(array, np.ndarray) else str(array.dtype).removeprefix("torch.")


def device_of(array: Array) -> str:
    """`cpu`, `cuda:0`.."""
    return CPU if isinstance(array, np.ndarray) else str(array.device)


def module_of(array: Array) -> Any:
    """Numpy or torch itself, for the functions that both spell alike."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def signature(value: object) -> tuple[Any, ...] | None:
    """What a call's preparation may depend on, of one argument: shape, type, device, recording; equal for equal ones.

    None for everything but numpy arrays, dense tensors and numbers: those need a closer look every time.
    """
    found = type(value)
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype) if found is np.ndarray else None
    if found in (float, int):
        return (found,)
    torch = sys.modules.get("torch")
    if torch is None or found not in (torch.Tensor, torch.nn.Parameter) or value.is_nested:  # type: ignore[attr-defined]
        return None
    tensor: Array = value
    return tensor.shape, tensor.dtype, tensor.device, tensor.layout, tensor.requires_grad


def is_recording() -> bool:
    """Whether autograd records operations now; never without torch."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.is_grad_enabled())


def is_traced() -> bool:
    """Whether calls are recorded instead of run: by torch.compile, torch.export, fake tensors, or any dispatch mode."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.compiler.is_compiling() or has_modes())


def has_modes() -> bool:
    """Whether operators reach a dispatch mode (fake tensors, tracers, counters) before they reach kernels."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch._C._len_torch_dispatch_stack())


def is_symbolic(size: Any) -> bool:
    """Whether a size stands for any number, in a call that is traced."""
    return not isinstance(size, (int, np.integer))


def unreadable(array: Array) -> str | None:
    """Why a tensor's elements can't be read one by one: `sparse`, `nested`, `without data`; None when they can."""
    if isinstance(array, np.ndarray):
        return None
    if array.is_nested:
        return "nested"
    if array.is_meta:
        return "without data"
    return None if str(array.layout) == "torch.strided" else "sparse"


def promote(dtypes: Iterable[str]) -> str:
    """The smallest of the four float types that holds all of these."""
    distinct = set(dtypes)
    if len(distinct) == 1:
        return distinct.pop()
    return "float64" if "float64" in distinct else "float32"


def wants_gradient(array: Array) -> bool:
    """Whether autograd is recording operations on this array."""
    return kind_of(array) == TORCH and bool(array.requires_grad) and is_recording()


def to_numpy(array: Array) -> Array:
    """A numpy array of the same values; bfloat16 becomes float32, which holds it exactly."""
    if isinstance(array, np.ndarray):
        return array
    plain = array.detach().cpu()
    # `Tensor.numpy` would forbid that its memory is ever freed before it, as `fully_shard` does with whole parameters
    return np.from_dlpack(plain.float() if dtype_of(plain) == "bfloat16" else plain)


def empty(shape: tuple[int, ...], kind: str, dtype: str, device: str) -> Array:
    """An array whose values are anything."""
    if kind == NUMPY:
        return np.empty(shape, dtype)
    torch = sys.modules["torch"]
    return torch.empty(shape, dtype=getattr(torch, dtype), device=device)


def write(target: Array, values: Array) -> None:
    """Puts values, numpy's or torch's, into an array."""
    if isinstance(target, np.ndarray):
        target[...] = to_numpy(values)
    else:
        target.copy_(convert(values, TORCH, dtype_of(values), device_of(target)))


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays are views of the same elements, in the same places."""
    if isinstance(a, np.ndarray) != isinstance(b, np.ndarray) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    if isinstance(a, np.ndarray):
        return bool(a.strides == b.strides and a.__array_interface__["data"] == b.__array_interface__["data"])
    if has_modes():  # tensors without memory
        return a is b
    return bool(a.stride() == b.stride() and a.data_ptr() == b.data_ptr())


def convert(array: Array, kind: str, dtype: str, device: str) -> Array:
    """The values as an array of this kind, element type and device; as it is where it already fits."""
    if kind == NUMPY:
        return to_numpy(array).astype(dtype, copy=False)
    torch = sys.modules["torch"]
    tensor = torch.from_numpy(np.asarray(array, order="C")) if isinstance(array, np.ndarray) else array
    return tensor.to(device=device, dtype=getattr(torch, dtype))


def filled(shape: tuple[int, ...], value: float, kind: str, dtype: str, device: str) -> Array:
    """An array of one number, made on its device: nothing is copied there."""
    if kind == NUMPY:
        return np.full(shape, value, dtype)
    torch = sys.modules["torch"]
    return torch.full(shape, value, dtype=getattr(torch, dtype), device=device)
