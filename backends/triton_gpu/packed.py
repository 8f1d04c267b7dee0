"""Packed sequences in kernels: a program first reads where its sequence lies, and then works as if that were all.

`time` is the length of the sequence and `chunks` its number of chunks, `origin` its first token among all; so loops,
masks, shifts, positions and pairs of chunks mean what they mean for a batch. The table of chunks is made on the device,
nobody waits for it: memory and programs are counted for the most chunks that the sequences can have, and programs for
which there is none end at once.
"""

from typing import Any

from smir.ir.kernel import Kernel

Tensor = Any
# The sizes that a launch gives; those of the ordinary kernels are read from the table.
PACKED_SIZES = ("heads", "all_chunks", "sequences")
# Index variables of packed kernels alone; those that a kernel doesn't need are dropped.
PACKED_INDEX = frozenset("slot origin time chunks first_chunk places".split())
# The table's tensors by the launcher's name, and the kernels' pointers to them.
PACKED_TABLE = {
    "cu_seqlens": "cu_seqlens_ptr",
    "first_chunks": "first_chunks_ptr",
    "sequence_of": "sequence_of_ptr",
}
# Tables that are kept: a model has one of them for each chunk size, forward and backward.
KEPT = 16


def packed_definitions(kernel: Kernel) -> list[str]:
    """Which sequence, and of a parallel kernel which chunk of it, a program works on.

    In memory the tiles of all chunks of one head stand side by side; those of the sequence begin at `places`.
    """
    if kernel.sequential:
        found = ["batch = tl.cast(program // heads, tl.int64)"]
    else:
        found = [
            "slot = program // heads",
            "batch = tl.cast(tl.load(sequence_of_ptr + slot), tl.int64)",
            "if batch >= sequences:",
            "    return",
        ]
    found += [
        "origin = tl.cast(tl.load(cu_seqlens_ptr + batch), tl.int64)",
        "time = tl.cast(tl.load(cu_seqlens_ptr + batch + 1) - origin, tl.int32)",
        "chunks = tl.cdiv(time, CHUNK)",
        "first_chunk = tl.load(first_chunks_ptr + batch)",
        "places = head * all_chunks + first_chunk",
    ]
    return found if kernel.sequential else [*found, "chunk = slot - first_chunk"]


# ---- the table --------------------------------------------------------------------------------------------------


def most_chunks(tokens: int, sequences: int, chunk: int) -> int:
    """The most chunks that so many sequences can have together: all but one token of a chunk may be missing in each."""
    filled = min(sequences, tokens)
    return filled + (tokens - filled) // chunk


class ChunkTables:
    """Tables by the tensor that they were made from and the chunk size: each is made once for all kernels and layers.

    A tensor is known by its memory and its version, which every change in place raises; it is kept with its table, so
    that its memory can't become another one's.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[Tensor, dict[str, Tensor]]] = {}

    def __call__(self, cu_seqlens: Tensor, tokens: int, chunk: int) -> dict[str, Tensor]:
        """The launcher's keywords. Nothing waits for the device."""
        if _is_untracked(cu_seqlens):
            return chunk_table(cu_seqlens, tokens, chunk)
        place = cu_seqlens.data_ptr(), tuple(cu_seqlens.shape), cu_seqlens.stride(), cu_seqlens.dtype, cu_seqlens.device
        key = (*place, _stream(cu_seqlens), cu_seqlens._version, tokens, chunk)
        if key not in self._known:
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = cu_seqlens, chunk_table(cu_seqlens, tokens, chunk)
        return self._known[key][1]


def _stream(tensor: Tensor) -> int:
    """On which work on the tensor waits its turn: a table is ready for what comes after it there, not for others."""
    import torch

    return int(torch.cuda.current_stream(tensor.device).cuda_stream) if tensor.is_cuda else 0


def _is_untracked(tensor: Tensor) -> bool:
    """Whether values may change without a new version: inference tensors have none, and a CUDA graph that is being
    recorded must make its tables itself, since what it is replayed with comes later."""
    import torch

    return bool(tensor.is_inference() or (tensor.is_cuda and torch.cuda.is_current_stream_capturing()))


def chunk_table(cu_seqlens: Tensor, tokens: int, chunk: int) -> dict[str, Tensor]:
    """`cu_seqlens` `[N + 1]`; `first_chunks` `[N]`, the number of each sequence's first chunk among all; and
    `sequence_of` `[most chunks]`, whose each chunk is: N for those that don't exist."""
    import torch

    sequences = cu_seqlens.shape[0] - 1
    counts = (cu_seqlens.diff() + (chunk - 1)).div(chunk, rounding_mode="floor")
    ends = counts.cumsum(0)
    slots = torch.arange(most_chunks(tokens, sequences, chunk), device=cu_seqlens.device, dtype=ends.dtype)
    return {
        "cu_seqlens": cu_seqlens.contiguous(),
        "first_chunks": (ends - counts).int(),
        "sequence_of": torch.searchsorted(ends, slots, right=True, out_int32=True),
    }


chunk_tables = ChunkTables()
