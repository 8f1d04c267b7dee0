"""Makes Triton's interpreter (TRITON_INTERPRET=1) count loops with current numpy, and compute in bfloat16 like a GPU.

It keeps scalars as arrays of one element, which `range` can't take since numpy 2.4 refuses to make an index of one. It
keeps bfloat16 as bit patterns, which it cuts off instead of rounding and multiplies as if they were integers. It scans
and reduces with functions of ours one element after the other: here it takes whole slices.
"""

import os
from typing import Any

import numpy as np


def is_interpreting() -> bool:
    """Whether kernels are run by the interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def prepare_interpreter() -> None:
    """Lets interpreted kernels loop over `range(x)` of a run-time scalar, round, multiply, and scan by slices. Safe to
    call again."""
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor
    if getattr(original, "counts_loops", False):
        return

    def patched(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    patched.counts_loops = True  # type: ignore[attr-defined]
    interpreter._patch_lang_tensor = patched
    _prepare_bfloat16(interpreter)
    interpreter.ScanOps.generic_scan = _scanned
    interpreter.ReduceOps.generic_reduce = _reduced


def _prepare_bfloat16(interpreter: Any) -> None:
    import triton.language as tl

    convert, builder = interpreter._convert_float, interpreter.InterpreterBuilder
    cast, multiply = builder.cast_impl, builder.create_dot

    def converted(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        if (source, target) == (tl.bfloat16, tl.float32):
            return widened(data)
        if (source, target) == (tl.float32, tl.bfloat16):
            return rounded(data)
        return convert(data, source, target, rounding)

    def casted(self: Any, source: Any, target: Any) -> Any:
        """What becomes bfloat16, truths too, and what it becomes, are numbers, not bit patterns."""
        kinds = {source.dtype.scalar, target.scalar}
        if tl.bfloat16 not in kinds or kinds <= {tl.bfloat16, tl.float32}:
            return cast(self, source, target)
        if target.scalar == tl.bfloat16:
            return interpreter.TensorHandle(rounded(source.data), tl.bfloat16)
        return cast(self, interpreter.TensorHandle(widened(source.data), tl.float32), target)

    def wide(handle: Any) -> Any:
        is_short = handle.dtype.scalar == tl.bfloat16
        return interpreter.TensorHandle(widened(handle.data), tl.float32) if is_short else handle

    def product(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return multiply(self, wide(a), wide(b), *rest)

    interpreter._convert_float = converted
    builder.cast_impl, builder.create_dot = casted, product


def _scanned(ops: Any, inputs: Any) -> list[Any]:
    """Scans tensors along an axis with the function of `ops`, all other axes at once."""
    kinds, columns = [x.dtype for x in inputs], [np.moveaxis(x.handle.data, ops.axis, 0) for x in inputs]
    rows = [tuple(c[0] for c in columns)]
    for now in zip(*(c[1:] for c in columns), strict=True):
        rows.append(_combined(ops, rows[-1], now, kinds))
    found = (np.moveaxis(np.stack(c), 0, ops.axis) for c in zip(*rows, strict=True))
    return [ops.to_tensor(c, kind) for c, kind in zip(found, kinds, strict=True)]


def _reduced(ops: Any, inputs: Any) -> list[Any]:
    """Reduces tensors along an axis (None: all of them), all other axes at once."""
    kinds, axis = [x.dtype for x in inputs], ops.axis or 0
    flat = [x.handle.data.ravel() if ops.axis is None else x.handle.data for x in inputs]
    columns = [np.moveaxis(x, axis, 0) for x in flat]
    total = tuple(c[0] for c in columns)
    for now in zip(*(c[1:] for c in columns), strict=True):
        total = _combined(ops, total, now, kinds)
    if ops.keep_dims:
        shape = [1 if ops.axis in (None, i) else n for i, n in enumerate(inputs[0].handle.data.shape)]
        total = tuple(np.reshape(x, shape) for x in total)
    return [ops.to_tensor(x, kind) for x, kind in zip(total, kinds, strict=True)]


def _combined(ops: Any, before: Any, now: Any, kinds: Any) -> tuple[Any, ...]:
    """The function of a scan or reduction of two slices each."""
    args = [ops.to_tensor(x, kind) for x, kind in zip((*before, *now), (*kinds, *kinds), strict=True)]
    made = ops.combine_fn.fn(*args)
    return tuple(x.handle.data.reshape(np.shape(now[0])) for x in (made if isinstance(made, tuple) else (made,)))


def widened(patterns: Any) -> Any:
    """The float32 values of bfloat16 bit patterns."""
    return (np.asarray(patterns).astype(np.uint32) << 16).view(np.float32)


def rounded(values: Any) -> Any:
    """The bit patterns of the nearest bfloat16 values, of the even one where two are as near; NaN stays NaN."""
    values = np.asarray(values, np.float32)
    bits = np.ascontiguousarray(values).view(np.uint32).reshape(values.shape)
    up = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), up).astype(np.uint16)
