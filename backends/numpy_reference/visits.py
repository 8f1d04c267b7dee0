"""Which chunks of columns the chunks of rows meet, in the scans of programs on pairs of chunks."""

from collections.abc import Iterator

from smir.backends.numpy_reference.layout import Extent
from smir.ir.tile import PAST_CHUNK
from smir.ir.tile_program import BEFORE, EARLIER, ITSELF, SPLITS, Scan


def column_count(scan: Scan, extent: Extent) -> int:
    """How many column chunks there are for a scan."""
    return extent.past_chunks if scan.order == BEFORE else extent.chunks


def visits(scan: Scan, extent: Extent) -> Iterator[tuple[slice, slice]]:
    """Which row chunks meet which column chunks, step by step; a chunk of the past meets all row chunks."""
    if scan.order == BEFORE:
        last = extent.past_chunks
        farthest = last if scan.reach is None else min(last, -(-scan.reach // extent.sizes[PAST_CHUNK]))
        for distance in range(1, farthest + 1):
            yield slice(0, extent.chunks), slice(last - distance, last - distance + 1)
        return
    if scan.order == SPLITS:
        # here the past is one part
        yield slice(0, extent.chunks), slice(0, extent.chunks)
        return
    for distance in visited(scan, extent):
        late, early = slice(distance, extent.chunks), slice(0, extent.chunks - distance)
        yield (late, early) if scan.order == EARLIER else (early, late)


def visited(scan: Scan, extent: Extent) -> range:
    """The distances, in chunks, at which a scan visits other chunks."""
    if scan.order == ITSELF:
        return range(1)
    farthest = extent.chunks - 1
    if scan.reach is not None:
        farthest = min(farthest, -(-scan.reach // extent.chunk))
    return range(farthest, 0, -1) if scan.inward else range(1, farthest + 1)
