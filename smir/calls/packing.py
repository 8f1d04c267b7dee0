"""Packed sequences: `cu_seqlens` says where each of N sequences of different lengths starts in one row of T tokens.

Sequence n has the tokens from `cu_seqlens[n]` up to, not including, `cu_seqlens[n + 1]`. A sequence may be empty: it
has no output, and its final state is its initial one.
"""

from typing import Any

import numpy as np

from smir.calls.array_kinds import CPU, Array, device_of, dtype_of, kind_of, to_numpy
from smir.calls.binding_shapes import Layout
from smir.errors import ArgumentError
from smir.ir.mixer import Mixer
from smir.ir.sizes import TIME_NAME

INTEGERS = ("int32", "int64")
EXAMPLE = "for lengths 3, 5 and 2: [0, 3, 8, 10]"


def check_cu_seqlens(mixer: Mixer, cu_seqlens: Any, kind: str, device: str, layout: Layout) -> None:
    """What can be said without a look at the values. Raises ArgumentError for what doesn't fit the arguments.

    `kind` and `device` are those of all other arguments, `layout` their sizes.
    """
    own = kind_of(cu_seqlens)
    if own is None:
        raise ArgumentError(f"cu_seqlens is a {type(cu_seqlens).__name__}, expected an integer array [N + 1]",
                            hint=f"numpy.asarray or torch.tensor makes one; {EXAMPLE}")  # fmt: skip
    if own != kind:
        raise ArgumentError(f"cu_seqlens is a {own} array and the arguments are {kind} ones",
                            hint="pass numpy arrays only or torch tensors only")  # fmt: skip
    if dtype_of(cu_seqlens) not in INTEGERS:
        raise ArgumentError(f"cu_seqlens holds {dtype_of(cu_seqlens)}, expected {' or '.join(INTEGERS)}", hint=EXAMPLE)
    if device_of(cu_seqlens) != device:
        raise ArgumentError(f"cu_seqlens is on {device_of(cu_seqlens)} and the arguments are on {device}",
                            hint="move it there once, before the first call")  # fmt: skip
    shape = tuple(cu_seqlens.shape)
    if len(shape) != 1 or shape[0] < 2:
        raise ArgumentError(f"cu_seqlens has shape {shape}, expected [N + 1] for N sequences", hint=EXAMPLE)
    if layout.batch != 1:
        raise ArgumentError(f"cu_seqlens with a batch of {layout.batch}: packed sequences lie in one row",
                            hint="inputs are [1, T, H, ...]; x.reshape(1, B * T, ...) packs a batch")  # fmt: skip
    if dense := next((d for d in mixer.declarations if any(TIME_NAME in dim.names for dim in d.dims)), None):
        raise ArgumentError(
            f"cu_seqlens with argument {dense.name}, whose size belongs to one length {TIME_NAME}",
            hint=f"call the mixer for each sequence, with the part of {dense.name} for its length",
        )


def any_length(signature: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """The same for every number of sequences, whose shape `check_cu_seqlens` passes or refuses alike."""
    if signature is None or len(signature) < 2:
        return signature
    shape, *others = signature
    return (len(shape) == 1 and shape[0] > 1, *others)


def has_readable_values(cu_seqlens: Array) -> bool:
    """Whether a look at the values makes nobody wait: those of a GPU are checked only if a call asks for it."""
    return device_of(cu_seqlens) == CPU


def check_values(cu_seqlens: Array, tokens: int) -> None:
    """From 0 to `tokens`, nowhere falling. Raises ArgumentError for the first place where it isn't so.

    Waits for the device that holds the values.
    """
    bounds = to_numpy(cu_seqlens).astype(np.int64)
    if bounds[0] != 0:
        raise ArgumentError(f"cu_seqlens starts at {bounds[0]}, expected 0", hint=EXAMPLE)
    falls = np.flatnonzero(np.diff(bounds) < 0)
    if falls.size:
        n = int(falls[0])
        raise ArgumentError(
            f"cu_seqlens is not increasing: cu_seqlens[{n}] is {bounds[n]} and cu_seqlens[{n + 1}] is {bounds[n + 1]}",
            hint=f"sequences lie one behind the other and don't overlap; {EXAMPLE}",
        )
    if bounds[-1] != tokens:
        raise ArgumentError(f"cu_seqlens ends at {bounds[-1]}, and there are {tokens} tokens",
                            hint=f"its last entry is T; {EXAMPLE}")  # fmt: skip
