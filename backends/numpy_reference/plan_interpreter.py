"""Runs a kernel plan on numpy: the production path of this backend.

Kernels without a loop take many chunks at once, those that walk through a sequence compute everything that no state
reaches for many chunks at once and only the rest chunk by chunk, and quadratic ones take all row chunks of one
distance at once. "Many" is as much as fits into the processor's cache.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from smir.backends.numpy_reference.evaluate import Leaves, Schedule, run_schedule, schedule
from smir.backends.numpy_reference.head_groups import summed_over_groups, with_all_heads
from smir.backends.numpy_reference.hoisting import block_of, frontier, one_sided
from smir.backends.numpy_reference.layout import (
    Extent,
    added_up,
    dense_tiles,
    empty_result,
    final_state,
    finished_result,
    initial_tile,
    measure,
    param_tile,
    past_positions,
    past_tile,
    positions,
    split_chunks,
)
from smir.backends.numpy_reference.segment_walks import segment_parts, walk_segments
from smir.backends.numpy_reference.visits import column_count, visits
from smir.errors import IRError
from smir.ir.graph import Node
from smir.ir.kernel import PER_PAIR, PER_SEGMENT, PER_SEQUENCE, Buffer, Kernel, KernelPlan, Loop, Store
from smir.ir.tile import BUFFER, COL, DENSE, PAIR, PARAM, PAST, PAST_CHUNK, POSITION, ROW, TOKEN
from smir.ir.tile_program import BEFORE, INNER, OUTPUT, QUADRATIC, STEP, Carry

Array = Any
# What a gradient's name begins with.
GRADIENT = "d_"
# Parts of a sequence in kernels along segments.
SEGMENTS = 4
# Elements of one tile array that several operations in a row should find in the cache.
CACHED_ELEMENTS = 1 << 17
# Elements of an input from which on several threads share a run.
THREADED_ELEMENTS = 1 << 18


def run_plan(
    plan: KernelPlan,
    arrays: Mapping[str, Array],
    states: Mapping[str, Array] | None = None,
    *,
    chunk: int,
    seen: int | None = None,
    segments: int = SEGMENTS,
) -> tuple[Array, dict[str, Array]]:
    """The output y `[B, T, H, *dims]` of a forward plan and the final states `[B, H, *dims]`."""
    results, final = run_results(plan, arrays, states, chunk=chunk, seen=seen, segments=segments)
    return results[OUTPUT], final


def run_results(
    plan: KernelPlan,
    arrays: Mapping[str, Array],
    states: Mapping[str, Array] | None = None,
    *,
    chunk: int,
    seen: int | None = None,
    segments: int = SEGMENTS,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """All results by tensor and the final states `[B, H, *dims]`, in the inputs' float type.

    Buffers that the plan saves are among the results, those that it is given among the `arrays`, both
    `[B, H, chunks, rows, cols]` and at least float32.

    `arrays`: inputs `[B, T, H, *dims]` and parameters `[H, *dims]` by name; `states`: initial states, those not
    given start at their declared value. `chunk` is the rows of a chunk, at least 1; the step form takes one token
    at a time, and a quadratic form without loops over other chunks takes the whole sequence as its chunk.

    The plan of a segment is also given, as `<input>_past` `[B, n, H, *dims]`, the last n tokens before it; the segment
    comes after `seen` tokens (None: after n). `segments` is into how many parts kernels along segments cut the chunks.
    """
    carries = [c for k in plan.kernels for loop in k.loops for c in loop.scan.carries]
    own_heads = {leaf.name: np.shape(arrays[leaf.name])[2] for leaf in plan.leaves if leaf.kind in (TOKEN, PAST)}
    arrays = with_all_heads(arrays, own_heads)
    extent = measure(plan.leaves, carries, arrays, states or {}, chunk)
    if plan.form == STEP:
        extent = measure(plan.leaves, carries, arrays, states or {}, 1)
    elif plan.form == QUADRATIC and not any(_inner(k) for k in plan.kernels):
        extent = measure(plan.leaves, carries, arrays, states or {}, extent.time)
    extent = extent if seen is None else replace(extent, seen=seen)
    summands = dict.fromkeys(plan.totals, 1) | dict.fromkeys(plan.segment_totals, segments)
    memory = {r.name: empty_result(r, extent, summands.get(r.name)) for r in plan.results}
    saved = {b.name: _saved_memory(b, extent) for b in plan.saved}
    views = {name: view for name, (_, view) in memory.items()} | saved
    parts = _head_parts(extent)

    def run(heads: slice) -> dict[str, Array]:
        return _run_heads(plan, arrays, states or {}, extent, heads, views, segments)

    if len(parts) == 1:
        finals = [run(parts[0])]
    else:
        # products in threads of their own: further threads inside the library would only wait for each other
        with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(len(parts)) as pool:
            finals = list(pool.map(run, parts))
    final = {name: np.concatenate([f[name] for f in finals], axis=1) for name in finals[0]}
    found = added_up((r, finished_result(memory[r.name][0], r, extent)) for r in plan.results)
    for name, heads in own_heads.items():
        if f"{GRADIENT}{name}" in found:
            found[f"{GRADIENT}{name}"] = summed_over_groups(found[f"{GRADIENT}{name}"], heads)
    return found | saved, final


def _saved_memory(b: Buffer, extent: Extent) -> Array:
    chunks = 1 if b.extent == PER_SEQUENCE else extent.chunks
    shape = (extent.batch, extent.heads, chunks, *extent.shape(b.rows, b.cols))
    return np.empty(shape, np.result_type(extent.dtype, np.float32))


def _head_parts(extent: Extent) -> list[slice]:
    """Heads are independent: each processor takes some of them, if the run is long enough to be worth it."""
    widest = max(size for axis, size in extent.sizes.items() if axis != PAST_CHUNK)
    # of the past, few tokens do little more than read it
    tokens = extent.time + extent.past // 16
    long_enough = extent.batch * tokens * extent.heads * widest >= THREADED_ELEMENTS
    count = min(extent.heads, os.cpu_count() or 1) if long_enough else 1
    edges = [extent.heads * part // count for part in range(count + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]


@cache
def _libraries() -> ThreadpoolController:
    """The linear algebra libraries of this process; looking for them takes milliseconds."""
    return ThreadpoolController()


def _run_heads(
    plan: KernelPlan,
    arrays: Mapping[str, Array],
    states: Mapping[str, Array],
    extent: Extent,
    heads: slice,
    views: Mapping[str, Array],
    segments: int,
) -> dict[str, Array]:
    """Runs some heads, writes their results into the views and returns their final states."""
    kinds = {leaf.name: leaf.kind for leaf in plan.leaves}
    own = {name: arrays[name][:, :, heads] if kind in (TOKEN, PAST) else arrays[name][heads]
           for name, kind in kinds.items()}  # fmt: skip
    given = {name: state[:, heads] for name, state in states.items()}
    # parameters' results have their heads in the same place: [B, H, chunks, ..]
    own_views = {name: view[:, heads] for name, view in views.items()}
    own_views |= {b.name: arrays[b.name][:, heads] for b in plan.given}
    run = _Run(plan, own, given, replace(extent, heads=heads.stop - heads.start), segments, own_views)
    with np.errstate(all="ignore"):
        for kernel in plan.kernels:
            run.launch(kernel)
    return run.final


def _inner(kernel: Kernel) -> bool:
    return any(loop.scan.order in INNER for loop in kernel.loops)


@dataclass
class _Run:
    """Memory of one run; everything a kernel stores has shape `[B, H, chunks, rows, cols]`."""

    plan: KernelPlan
    arrays: Mapping[str, Array]
    states: Mapping[str, Array]
    extent: Extent
    segments: int
    memory: dict[str, Array] = field(default_factory=dict)
    final: dict[str, Array] = field(default_factory=dict)
    loaded: dict[Node, Array] = field(default_factory=dict)

    def launch(self, kernel: Kernel) -> None:
        if not kernel.loops:
            self._parallel(kernel)
        elif _inner(kernel):
            self._quadratic(kernel)
        elif kernel.stores:
            raise IRError(f"kernel {kernel.name} walks through the sequence and also stores after its loops")
        elif kernel.in_segments:
            parts = segment_parts(self.extent.chunks, self.segments)
            walk_segments(kernel, parts, self._first, self._moved, self._finish)
        else:
            for loop in kernel.loops:
                tiles = self._first(loop.scan.carries, {})
                self._finish(loop, self._moved(loop, tiles, slice(0, self.extent.chunks)))

    # ---- the three kinds of kernels -----------------------------------------------------------------------------

    def _parallel(self, kernel: Kernel) -> None:
        work = schedule((s.value for s in kernel.stores), fuse=True)
        for part in self._groups(work.order, slice(0, self.extent.chunks)):
            for store, value in zip(kernel.stores, self._run(work, {}, part, part), strict=True):
                self._put(store, value, part)

    def _first(self, carries: tuple[Carry, ...], held: Mapping[Node, Array]) -> list[Array]:
        """What carries begin with: states, numbers, or what earlier loops hold."""
        return [initial_tile(c, self.states, self.extent) if c.start is None else held[c.start] for c in carries]

    def _moved(self, loop: Loop, tiles: list[Array], visited: slice) -> list[Array]:
        """The tiles after these chunks, each of which stores what the loop stores."""
        carries, reverse = loop.scan.carries, loop.scan.order == "backward"
        roots = (*(s.value for s in loop.stores), *(c.next for c in carries))
        loads = {c.load for c in carries}
        hoisted = frontier(roots, loads)
        outside, inside = schedule(hoisted, fuse=True), schedule(roots, {*hoisted, *loads}, fuse=True)
        groups = self._groups((*outside.order, *inside.order), visited)
        for part in reversed(list(groups)) if reverse else groups:
            ready = list(zip(hoisted, self._run(outside, {}, part, part), strict=True))
            chunks = range(part.stop - part.start)
            for c in reversed(chunks) if reverse else chunks:
                values = {n: a if a.ndim < 5 or a.shape[2] == 1 else a[:, :, c : c + 1] for n, a in ready}
                values.update((carry.load, t[:, :, None]) for carry, t in zip(carries, tiles, strict=True))
                here = slice(part.start + c, part.start + c + 1)
                results = self._run(inside, values, here, here)
                for store, value in zip(loop.stores, results, strict=False):
                    self._put(store, value, here)
                moved = results[len(loop.stores) :]
                tiles = [self._carried(c, m) for c, m in zip(carries, moved, strict=True)]
        return tiles

    def _carried(self, carry: Carry, value: Array) -> Array:
        shape = (self.extent.batch, self.extent.heads, *self.extent.shape(carry.rows, carry.cols))
        tile = value[:, :, 0] if value.ndim == 5 else value
        return tile if tile.shape == shape else np.broadcast_to(tile, shape)

    def _finish(self, loop: Loop, tiles: list[Array], segment: int = 0, is_last: bool = True) -> None:
        """Stores what a loop ends with, of the whole sequence or of one segment."""
        ends: dict[Node, Array] = {c.load: t[:, :, None] for c, t in zip(loop.scan.carries, tiles, strict=True)}
        work = schedule((s.value for s in loop.final_stores), ends)
        last = slice(self.extent.chunks - 1, self.extent.chunks)
        for store, value in zip(loop.final_stores, self._run(work, ends, last, last), strict=True):
            buffer = next((b for b in self.plan.buffers if b.name == store.target), None)
            if buffer is not None and buffer.extent == PER_SEGMENT:
                self._put(store, value, slice(segment, segment + 1))
                continue
            if store.target in self.plan.totals:
                self._put(store, value, slice(segment, segment + 1))
                continue
            if not is_last:
                continue
            if buffer is not None:
                self._put(store, value, slice(0, 1))
                continue
            tile, type_ = value.reshape(*value.shape[:2], *value.shape[-2:]), store.value.type
            state = final_state(tile, store.transposed, type_.rows, type_.cols, self.extent)
            self.final[store.target] = state.astype(self.extent.dtype)

    def _quadratic(self, kernel: Kernel) -> None:
        held: dict[Node, Array] = {}
        for loop in kernel.loops:
            held.update(self._inner_loop(loop, held))
        work = schedule((s.value for s in kernel.stores), held, fuse=True)
        everything = slice(0, self.extent.chunks)
        for store, value in zip(kernel.stores, self._run(work, dict(held), everything, everything), strict=True):
            self._put(store, value, everything)

    def _inner_loop(self, loop: Loop, before: Mapping[Node, Array]) -> dict[Node, Array]:
        """All row chunks meet the column chunk of one distance at once, nearest (or farthest) first."""
        carries = loop.scan.carries
        held = self._starts(carries, before)
        roots = (*(s.value for s in loop.stores), *(c.next for c in carries))
        hoisted = one_sided(roots)
        if loop.scan.order == BEFORE:
            # a chunk of the past is met once
            hoisted = tuple(n for n in hoisted if block_of(n) == ROW)
        everything, columns = slice(0, self.extent.chunks), slice(0, column_count(loop.scan, self.extent))
        ready = list(zip(hoisted, self._run(schedule(hoisted), {}, everything, columns), strict=True))
        work = schedule(roots, (*hoisted, *held))
        for rows, cols in visits(loop.scan, self.extent):
            values = {n: _cut(a, rows if block_of(n) == ROW else cols) for n, a in ready}
            values.update((n, a[:, :, rows]) for n, a in held.items())
            found = self._run(work, values, rows, cols)
            # carries are views of what is held: first everything is made, then it moves on
            made = [np.array(a) for a in found] if loop.stores else found
            for store, value in zip(loop.stores, made, strict=False):
                self._put(store, value, rows, cols)
            for c, moved in zip(carries, made[len(loop.stores) :], strict=True):
                held[c.load][:, :, rows] = moved
        return held

    def _starts(self, carries: tuple[Carry, ...], before: Mapping[Node, Array]) -> dict[Node, Array]:
        """What every row chunk's carries hold before the first column chunk."""
        everything = slice(0, self.extent.chunks)
        begun = [c for c in carries if c.start is not None]
        work = schedule((c.start for c in begun if c.start is not None), before, fuse=True)
        found = dict(zip(begun, self._run(work, dict(before), everything, everything), strict=True))
        return {c.load: self._for_every_chunk(c, found.get(c)) for c in carries}

    def _for_every_chunk(self, carry: Carry, start: Array | None = None) -> Array:
        extent = self.extent
        if start is None:
            return np.repeat(initial_tile(carry, self.states, extent)[:, :, None], extent.chunks, axis=2)
        shape = (extent.batch, extent.heads, extent.chunks, *extent.shape(carry.rows, carry.cols))
        wide = np.result_type(extent.dtype, np.float32)
        return np.array(np.broadcast_to(start, shape), wide)

    # ---- loads and stores ---------------------------------------------------------------------------------------

    def _run(self, work: Schedule, values: dict[Node, Array], rows: slice, cols: slice) -> list[Array]:
        """Values for the row chunks `rows` and, where the node says so, the column chunks `cols`."""

        def part_of(node: Node) -> slice:
            return cols if node.get("block") in (COL, PAST) else rows

        def count(node: Node) -> Array:
            # as many axes as any tile with chunks, so that a constant with some rows replaced is cut like one
            part, of = part_of(node), self.extent.past_count if node["block"] == PAST else self.extent.count
            return np.array([of(c) for c in range(part.start, part.stop)])[None, None, :, None, None]

        def load(node: Node) -> Array:
            if node["kind"] in (DENSE, PAIR):
                return self._pairs(node, part_of(node), cols if node["other"] == COL else rows)
            return self._load(node, part_of(node))

        return run_schedule(work, values, Leaves(load, count), self.extent)

    def _load(self, node: Node, part: slice) -> Array:
        if node["kind"] == BUFFER:
            return _cut(self.memory[node["name"]], part)
        if node["kind"] == PAST:
            return past_tile(self.arrays[node["name"]], self.extent, node.type.cols, part.start)
        if node not in self.loaded:
            self.loaded[node] = self._whole(node)
        return _cut(self.loaded[node], part)

    def _pairs(self, node: Node, first: slice, second: slice) -> Array:
        """A tile for each two chunks, taken one of each from two runs of equal length."""
        if node["kind"] == DENSE and node not in self.loaded:
            self.loaded[node] = dense_tiles(self.arrays[node["name"]], self.extent)
        whole = self.loaded[node] if node["kind"] == DENSE else self.memory[node["name"]]
        return whole[:, :, np.arange(first.start, first.stop), np.arange(second.start, second.stop)]

    def _whole(self, node: Node) -> Array:
        name, type_ = node["name"], node.type
        if node["kind"] == PARAM:
            return param_tile(self.arrays[name], self.extent, type_.rows, type_.cols)[:, :, None]
        if node["kind"] == POSITION:
            return past_positions(self.extent) if node["block"] == PAST else positions(self.extent)
        if node["kind"] == TOKEN:
            return split_chunks(self.arrays[name], self.extent, node["offset"], type_.rows, type_.cols)
        raise IRError(f"a kernel loads the carried tile {name} of another one")

    def _put(self, store: Store, value: Array, part: slice, other: slice | None = None) -> None:
        """Stores tiles of some chunks, or (`other`) of some pairs of chunks."""
        extent, type_ = self.extent, store.value.type
        if store.target not in self.memory:
            buffer = next((b for b in self.plan.buffers if b.name == store.target), None)
            counts = {PER_SEQUENCE: 1, PER_SEGMENT: self.segments}
            chunks = counts.get(buffer.extent, extent.chunks) if buffer is not None else extent.chunks
            count = (chunks, chunks) if buffer is not None and buffer.extent == PER_PAIR else (chunks,)
            shape = (extent.batch, extent.heads, *count, *extent.shape(type_.rows, type_.cols))
            self.memory[store.target] = np.empty(shape, np.result_type(extent.dtype, np.float32))
        memory = self.memory[store.target]
        if memory.ndim == 6:
            other = other or part
            memory[:, :, np.arange(part.start, part.stop), np.arange(other.start, other.stop)] = value
        else:
            memory[:, :, part] = value

    def _groups(self, order: tuple[Node, ...], chunks: slice) -> Iterator[slice]:
        """Runs of these chunks whose largest tile fits the cache."""
        shapes = {n.type for n in order}
        largest = max((int(np.prod(self.extent.shape(t.rows, t.cols))) for t in shapes), default=1)
        size = max(1, CACHED_ELEMENTS // (self.extent.batch * self.extent.heads * largest))
        for start in range(chunks.start, chunks.stop, size):
            yield slice(start, min(start + size, chunks.stop))


def _cut(array: Array, part: slice) -> Array:
    """Some chunks of a tile array; tiles without a chunk axis, or with one for all chunks, stay."""
    return array if array.ndim < 5 or array.shape[2] == 1 else array[:, :, part]
