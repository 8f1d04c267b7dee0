"""Tile programs run by definition: the reference of every form.

Scans are Python loops over chunks, batched over sequences and heads; the output is evaluated for all chunks at
once from what the scans held before each of them. Nothing is optimised here; `plan_interpreter` is the fast one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from smir.backends.numpy_reference.evaluate import Leaves, run_schedule, schedule
from smir.backends.numpy_reference.head_groups import summed_over_groups, with_all_heads
from smir.backends.numpy_reference.layout import (
    Extent,
    added_up,
    dense_tiles,
    empty_result,
    final_state,
    finished_result,
    initial_tile,
    join_result,
    measure,
    param_tile,
    past_positions,
    past_tile,
    positions,
    split_chunks,
)
from smir.backends.numpy_reference.visits import visits
from smir.ir.graph import Node
from smir.ir.tile import BUFFER, CARRIED, COL, DENSE, PAIR, PARAM, PAST, POSITION, TOKEN
from smir.ir.tile_program import BEFORE, INNER, OUTPUT, QUADRATIC, STEP, Result, Scan, TileProgram

Array = Any
# What a gradient's name begins with.
GRADIENT = "d_"


def run_tile(
    program: TileProgram,
    arrays: Mapping[str, Array],
    states: Mapping[str, Array] | None = None,
    *,
    chunk: int,
) -> tuple[Array, dict[str, Array]]:
    """The output y `[B, T, H, *dims]` of a forward program and the final states `[B, H, *dims]`."""
    results, final = run_tile_results(program, arrays, states, chunk=chunk)
    return results[OUTPUT], final


def run_tile_results(
    program: TileProgram,
    arrays: Mapping[str, Array],
    states: Mapping[str, Array] | None = None,
    *,
    chunk: int,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """All results by tensor, and the final states `[B, H, *dims]`, in the inputs' float type.

    `arrays`: inputs `[B, T, H, *dims]` and parameters `[H, *dims]` by name; `states`: initial states, those not
    given start at their declared value. `chunk` is the rows of a chunk, at least 1; the step form takes one token
    at a time, and a quadratic form without loops over other chunks takes the whole sequence as its chunk.
    """
    own_heads = {leaf.name: np.shape(arrays[leaf.name])[2] for leaf in program.leaves if leaf.kind in (TOKEN, PAST)}
    run = _Run(program, with_all_heads(arrays, own_heads), states or {}, chunk)
    with np.errstate(all="ignore"):
        for scan in program.scans:
            if scan.order not in INNER:
                run.scan(scan)
        results = run.quadratic_output() if run.inner else run.output()
    for name, heads in own_heads.items():
        if f"{GRADIENT}{name}" in results:
            results[f"{GRADIENT}{name}"] = summed_over_groups(results[f"{GRADIENT}{name}"], heads)
    return results, run.final


class _Run:
    """One run: what scans held before every chunk, what they exported, and the final states."""

    def __init__(
        self, program: TileProgram, arrays: Mapping[str, Array], states: Mapping[str, Array], chunk: int
    ) -> None:
        self.program, self.arrays, self.states = program, arrays, states
        self.inner = [s for s in program.scans if s.order in INNER]
        extent = measure(program.leaves, program.carries, arrays, states, chunk)
        if program.form == STEP or (program.form == QUADRATIC and not self.inner):
            rows = 1 if program.form == STEP else extent.time
            extent = measure(program.leaves, program.carries, arrays, states, rows)
        self.extent: Extent = extent
        self.held: dict[str, list[Array]] = {}
        self.exported: dict[str, list[Array]] = {}
        self.pairs: dict[str, dict[tuple[int, int], Array]] = {}
        self.final: dict[str, Array] = {}

    def scan(self, scan: Scan) -> None:
        """Visits the chunks in the scan's order."""
        order = range(self.extent.chunks)
        empty: list[Array] = [None] * self.extent.chunks
        self.held.update({c.name: empty.copy() for c in scan.carries})
        self.exported.update({name: empty.copy() for name, _ in scan.exports})
        tiles = {c.name: initial_tile(c, self.states, self.extent) for c in scan.carries}
        for chunk in reversed(order) if scan.order == "backward" else order:
            for name, tile in tiles.items():
                self.held[name][chunk] = tile
            roots = (*(v for _, v in scan.exports), *(c.next for c in scan.carries))
            values = self.values(roots, self.leaves(chunk, chunk, tiles))
            for (name, _), value in zip(scan.exports, values, strict=False):
                self.exported[name][chunk] = value
            moved = values[len(scan.exports) :]
            tiles = {c.name: self.widen(m, c.rows, c.cols) for c, m in zip(scan.carries, moved, strict=True)}
        for c in scan.carries:
            if c.state and c.final:
                last = final_state(tiles[c.name], c.transposed, c.rows, c.cols, self.extent)
                self.final[c.state] = last.astype(self.extent.dtype)

    def output(self) -> dict[str, Array]:
        """All chunks at once."""
        extent = self.extent
        held = {name: np.stack(tiles, axis=2) for name, tiles in self.held.items()}
        exported = {name: np.stack([self.wide(t) for t in tiles], axis=2) for name, tiles in self.exported.items()}
        counts = np.array([extent.count(c) for c in range(extent.chunks)])[:, None, None]

        def load(node: Node) -> Array:
            if node["kind"] == CARRIED:
                return held[node["name"]]
            if node["kind"] == BUFFER:
                return exported[node["name"]]
            if node["kind"] == PARAM:
                return param_tile(self.arrays[node["name"]], extent, node.type.rows, node.type.cols)[:, :, None]
            return self.tokens(node)

        return self.finish(self.values((o.value for o in self.program.outputs), Leaves(load, lambda node: counts)))

    def quadratic_output(self) -> dict[str, Array]:
        """Kernel by kernel: for every row chunk the column chunks of each scan, and what they export. Then results."""
        chunks = range(self.extent.chunks)
        ends: list[dict[str, Array]] = [{} for _ in chunks]
        for kernel in dict.fromkeys(s.kernel for s in self.inner):
            scans = [s for s in self.inner if s.kernel == kernel]
            for row in chunks:
                for scan in scans:
                    ends[row] |= self.visit(scan, row, ends[row])
                for name, value in (e for s in scans for e in s.exports):
                    found = self.values([value], self.leaves(row, row, ends[row]))
                    self.exported.setdefault(name, []).append(self.wide(found[0]))
        rows = []
        for row in chunks:
            found = self.values((o.value for o in self.program.outputs), self.leaves(row, row, ends[row]))
            rows.append([self.wide(tile) for tile in found])
        return self.finish([np.stack(tiles, axis=2) for tiles in zip(*rows, strict=True)])

    def visit(self, scan: Scan, row: int, tiles: Mapping[str, Array]) -> dict[str, Array]:
        """What a scan's carries hold after the column chunks of one row chunk."""
        held = {c.name: initial_tile(c, self.states, self.extent) for c in scan.carries}
        begun = [(c, c.start) for c in scan.carries if c.start is not None]
        for (c, _), value in zip(begun, self.values((s for _, s in begun), self.leaves(row, row, tiles)), strict=True):
            held[c.name] = self.widen(value, c.rows, c.cols)
        for col in self.visited(scan, row):
            roots = (*(v for _, v in scan.each), *(c.next for c in scan.carries))
            found = self.values(roots, self.leaves(row, col, held))
            for (name, _), value in zip(scan.each, found, strict=False):
                self.pairs.setdefault(name, {})[row, col] = self.wide(value)
            moved = found[len(scan.each) :]
            held = {c.name: self.widen(m, c.rows, c.cols) for c, m in zip(scan.carries, moved, strict=True)}
        return held

    def visited(self, scan: Scan, row: int) -> list[int]:
        """The column chunks of a row chunk in the order of visits."""
        met = ((rows, cols) for rows, cols in visits(scan, self.extent) if rows.start <= row < rows.stop)
        # a chunk of the past meets all row chunks, another one the row chunk at the same place
        return [cols.start + (row - rows.start if scan.order != BEFORE else 0) for rows, cols in met]

    def values(self, roots: Iterable[Node], leaves: Leaves) -> list[Array]:
        """The values of some tiles."""
        return run_schedule(schedule(roots), {}, leaves, self.extent)

    def leaves(self, row: int, col: int, tiles: Mapping[str, Array]) -> Leaves:
        """What is loaded at one pair of chunks; `tiles` are the carried ones."""

        def chunk_of(node: Node) -> int:
            return col if node.get("block") in (COL, PAST) else row

        def load(node: Node) -> Array:
            if node["kind"] == CARRIED:
                name = node["name"]
                return tiles[name] if name in tiles else self.held[name][row]
            if node["kind"] == BUFFER:
                return self.exported[node["name"]][chunk_of(node)]
            if node["kind"] == PARAM:
                return param_tile(self.arrays[node["name"]], self.extent, node.type.rows, node.type.cols)
            if node["kind"] == POSITION:
                numbers = past_positions(self.extent) if node["block"] == PAST else positions(self.extent)
                return numbers[:, :, chunk_of(node)]
            if node["kind"] == PAST:
                return past_tile(self.arrays[node["name"]], self.extent, node.type.cols, col)[:, :, 0]
            if node["kind"] in (DENSE, PAIR):
                pair = chunk_of(node), col if node["other"] == COL else row
                if node["kind"] == PAIR:
                    return self.pairs[node["name"]][pair]
                return dense_tiles(self.arrays[node["name"]], self.extent)[:, :, pair[0], pair[1]]
            return self.tokens(node)[:, :, chunk_of(node)]

        def count(node: Node) -> int:
            return (self.extent.past_count if node["block"] == PAST else self.extent.count)(chunk_of(node))

        return Leaves(load, count)

    def tokens(self, node: Node) -> Array:
        """An input as tiles of all chunks, `[B, H, chunks, rows, cols]`."""
        return split_chunks(self.arrays[node["name"]], self.extent, node["offset"], node.type.rows, node.type.cols)

    def wide(self, tile: Array) -> Array:
        """A tile with its batch axes at full size."""
        return np.broadcast_to(tile, (self.extent.batch, self.extent.heads, *tile.shape[-2:]))

    def widen(self, tile: Array, rows: str, cols: str) -> Array:
        """A carried tile at full size (an update may be a constant)."""
        return np.broadcast_to(tile, (self.extent.batch, self.extent.heads, *self.extent.shape(rows, cols)))

    def finish(self, tiles: Iterable[Array]) -> dict[str, Array]:
        """The tiles of all outputs as tensors."""
        extent, found = self.extent, []
        for output, tile in zip(self.program.outputs, tiles, strict=True):
            full = np.broadcast_to(tile, (extent.batch, extent.heads, extent.chunks, *tile.shape[-2:]))
            if output.result.kind == DENSE:
                found.append((output.result, self.joined_pairs(output.result, full)))
                continue
            found.append((output.result, join_result(full, output.result, extent)))
        return added_up(found)

    def joined_pairs(self, result: Result, own: Array) -> Array:
        """A result of pairs of tokens: every chunk's own part, and what the scans stored for pairs of chunks."""
        memory, view = empty_result(result, self.extent)
        diagonal = np.arange(self.extent.chunks)
        view[:, :, diagonal, diagonal] = own
        for (row, col), value in self.pairs.get(result.name, {}).items():
            view[:, :, row, col] = value
        return finished_result(memory, result, self.extent)
