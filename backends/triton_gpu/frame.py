"""The frame around a kernel's arithmetic: index variables, addresses and masks of every tile it reads or writes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from smir.backends.triton_gpu.facts import Facts, block_name, size_name
from smir.backends.triton_gpu.helpers import FIXED
from smir.backends.triton_gpu.names import Names, word
from smir.backends.triton_gpu.options import has_columns
from smir.backends.triton_gpu.packed import PACKED_INDEX, PACKED_SIZES, PACKED_TABLE
from smir.backends.triton_gpu.pair_places import (
    ROWS,
    dense_address,
    dense_gradient,
    dense_mask,
    pair_address,
    positions,
)
from smir.backends.triton_gpu.past import POINTERS, has_past, reserve
from smir.backends.triton_gpu.segments import OWN_SEGMENT, SEGMENT_NAMES, SEGMENTS, VISITED
from smir.backends.triton_gpu.spans import SPANNED, spanned_pairs
from smir.backends.triton_gpu.symbols import BUFFER as BUFFER_SYMBOL
from smir.backends.triton_gpu.symbols import FINAL, INITIAL, INPUT, OUTPUT, symbols, tensors
from smir.errors import IRError
from smir.ir.graph import Node, walk
from smir.ir.kernel import GRID, PER_CHUNK, PER_SEGMENT, PER_SEQUENCE, PER_SPLIT, PER_TOKEN, Buffer, Kernel, KernelPlan
from smir.ir.tile import (
    BUFFER,
    CHUNK,
    COL,
    DENSE,
    ONE,
    OWN,
    PAIR,
    PARAM,
    PAST,
    PAST_CHUNK,
    POSITION,
    ROW,
    SIZELESS,
    TOKEN,
    TOKEN_AXES,
    axis_parts,
)
from smir.ir.tile_program import LATER, SCAN, Carry, Result, Scan


@dataclass(frozen=True)
class Argument:
    """A kernel parameter and the expression that the launcher passes for it."""

    name: str
    value: str


def tensor_axes(rows: str, cols: str, kind: str) -> tuple[str, ...]:
    """The dimension axes of the tensor behind a loaded tile, in the order of its last dimensions."""
    if kind == DENSE:
        return ()
    if rows in TOKEN_AXES or (kind == PARAM and rows == ONE):
        return () if cols == ONE else axis_parts(cols)
    return () if rows == cols == ONE else (rows,) if cols == ONE else (rows, cols)


@dataclass
class Frame:
    """Addresses and masks in one kernel. Tensors are registered as parameters when a tile first needs them."""

    plan: KernelPlan
    kernel: Kernel
    facts: Facts
    names: Names = field(default_factory=lambda: Names(FIXED))
    pointers: dict[str, list[Argument]] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    # parameters that change from call to call: no kernels of their own for numbers that 16 divides
    growing: list[str] = field(default_factory=list)
    # that of the loop that is being printed
    scan: Scan | None = None

    def __post_init__(self) -> None:
        self.symbols = symbols(self.plan)
        self.spans = any(OWN in (n.type.rows, n.type.cols) for n in walk(self.kernel.roots()))
        if self.facts.packed:
            for name in (*PACKED_INDEX, *PACKED_SIZES, *PACKED_TABLE.values()):
                self.names.new(name)
            self.pointers["packing"] = [Argument(name, value) for value, name in PACKED_TABLE.items()]
        if self.kernel.in_segments:
            for name in SEGMENT_NAMES:
                self.names.new(name)
        if has_past(self.plan):
            reserve(self.names)
            self.pointers["position"] = [Argument(name, value) for name, value in POINTERS.items()]
        for axis, _ in self.kernel.roles:
            for name in (
                block_name(axis),
                size_name(axis),
                over(axis),
                f"block_of_{word(axis)}",
                f"blocks_of_{word(axis)}",
            ):
                self.names.new(name)
        used = {a for n in walk(self.kernel.roots()) for a in (n.type.rows, n.type.cols)}
        self.lanes = tuple(sorted(a for a in used if len(axis_parts(a)) > 1))
        for name in (name for axis in self.lanes for name in lane_indices(axis)):
            self.names.new(name)

    def levels(self) -> str:
        """The constant matrices of the levels, as a parameter."""
        if "levels" not in self.pointers:
            device = f"{self.symbols[INPUT, tensors(self.plan)[0].name]}.device"
            value = f"level_weights(chunk, {device})"
            self.pointers["levels"] = [Argument(self.names.new("levels_ptr"), value)]
        return self.pointers["levels"][0].name

    # ---- packed sequences ---------------------------------------------------------------------------------------

    @property
    def row_start(self) -> str:
        """The number of a sequence's first token among all that lie in memory."""
        return "origin" if self.facts.packed else "batch * time"

    @property
    def first_tile(self) -> str:
        """The number of a sequence's first chunk among all for which memory has a tile."""
        return "places" if self.facts.packed else "sequence * chunks"

    @property
    def own_tile(self) -> str:
        """The number of the program's chunk among them."""
        return "here" if self.facts.packed else "((batch * heads + head) * chunks + chunk)"

    # ---- axes ---------------------------------------------------------------------------------------------------

    def extent(self, axis: str) -> str:
        """The length of a tile along an axis."""
        whole = {CHUNK: "CHUNK", PAST_CHUNK: "PAST_CHUNK", OWN: "OWN", ONE: "1"}
        return whole.get(axis) or " * ".join(map(block_name, axis_parts(axis)))

    def holds_columns(self, node: Node) -> bool:
        """Whether a thread holds whole columns of a chunk's tile, so that a scan along them needs no other thread.

        Kernels of scans alone have blocks and warps for that (`options.py`).
        """
        return self.plan.form == SCAN and has_columns(self.kernel) and node.type.cols != ONE

    def shape(self, rows: str, cols: str) -> str:
        return "()" if rows == cols == ONE else f"({self.extent(rows)}, {self.extent(cols)})"

    def is_padded(self, axis: str) -> bool:
        return axis not in SIZELESS and not self.facts.exact.issuperset(axis_parts(axis))

    def validity(self, axis: str, side: int) -> str:
        """The mask of an axis' real entries, broadcast along the other side."""
        place, parts = "[:, None]" if side == 0 else "[None, :]", axis_parts(axis)
        names = (over(axis),) if len(parts) == 1 else lane_indices(axis)
        padded = [(name, part) for name, part in zip(names, parts, strict=True) if self.is_padded(part)]
        return " & ".join(f"({name} < {size_name(part)}){place}" for name, part in padded)

    def padding_mask(self, node: Node, sides: Iterable[int] = (0, 1)) -> str:
        """The mask of a tile's entries that aren't padding; empty when there is none."""
        axes = (node.type.rows, node.type.cols)
        return " & ".join(self.validity(axes[s], s) for s in sides if self.is_padded(axes[s]))

    # ---- tensors ------------------------------------------------------------------------------------------------

    def load(self, node: Node) -> str:
        """The expression that loads a leaf."""
        kind, rows, cols = node["kind"], node.type.rows, node.type.cols
        if kind == BUFFER:
            buffer, col = self.plan.buffer(node["name"]), node["block"] == COL
            return self._read(self._buffer_address(buffer, col, rows=rows), self._masks(rows, cols, None))
        if kind == POSITION:
            return positions(node, has_past(self.plan))
        if kind == PAIR:
            pointer = self._pointer(BUFFER_SYMBOL, node["name"])
            buffer = self.plan.buffer(node["name"])
            own, mask = self._own_of_pair(buffer)
            address = pair_address(pointer, buffer, node["block"], node["other"], self.facts.packed, own)
            return self._read(address, self._masks(rows, cols, None) or mask)
        if kind == DENSE:
            return self._read(self._dense_param(node), dense_mask(node["block"], node["other"]))
        if kind == TOKEN:
            inside = self._token_mask(node["offset"], node["block"] == COL, rows)
            return self._read(self._token_address(node), self._masks(rows, cols, inside))
        if kind == PAST:
            base = self._strided(node["name"], kind, rows, cols)
            stride = self._strides(node["name"])[1].name
            address = self._tile_address(f"{base} + past_start * {stride}", node["name"], rows, cols, stride)
            return self._read(address, self._masks(rows, cols, "past_inside[:, None]"))
        if kind == PARAM:
            base = self._strided(node["name"], kind, rows, cols)
            return self._read(self._tile_address(base, node["name"], rows, cols), self._masks(rows, cols, None))
        raise IRError(f"a kernel can't load a {kind} tile")

    def load_tile(self, node: Node, tile: str, condition: str = "") -> str:
        """The expression that loads a buffer's tile of the chunk of this number, or zeros but for a condition."""
        rows, cols = node.type.rows, node.type.cols
        address = self._dense(self._pointer(BUFFER_SYMBOL, node["name"]), tile, rows, cols, False)
        masks = [condition and f"({condition})", self._masks(rows, cols, None)]
        return self._read(address, " & ".join(filter(None, masks)))

    def load_initial(self, carry: Carry) -> tuple[str, str]:
        """The parameter of a carry's initial state and the expression that loads it."""
        pointer = self._pointer(INITIAL, str(carry.state))
        address = self._state_address(pointer, carry.rows, carry.cols, carry.transposed)
        return pointer, self._read(address, self._masks(carry.rows, carry.cols, None))

    def store(self, target: str, rows: str, cols: str, transposed: bool, value: str, summed: str | None = None) -> str:
        """The statement that writes a tile to a buffer, the output or a final state; `summed`: one of its summands."""
        inside = None
        if any(b.name == target for b in self.plan.buffers):
            buffer = self.plan.buffer(target)
            address = self._buffer_address(buffer, False, transposed, OWN_SEGMENT, rows)
            inside = self._token_mask(0, False, rows) if buffer.extent == PER_TOKEN else None
        elif result := next((r for r in self.plan.results if r.name == target), None):
            address, inside = self._result_place(result, rows, summed)
        else:
            pointer = self._pointer(FINAL, target)
            address = self._state_address(pointer, rows, cols, transposed)
        masks = inside if inside and cols == CHUNK else self._masks(rows, cols, inside)
        return f"tl.store({address}, {value}" + (f", mask={masks})" if masks else ")")

    def store_pair(self, target: str, rows: str, cols: str, value: str) -> str:
        """The statement that writes a tile of the current pair of chunks to a buffer or a result."""
        if any(b.name == target for b in self.plan.buffers):
            pointer = self._pointer(BUFFER_SYMBOL, target)
            address = pair_address(pointer, self.plan.buffer(target), ROW, COL, self.facts.packed)
            masks = self._masks(rows, cols, None)
        else:
            address, masks = dense_gradient(self._pointer(OUTPUT, target), COL), dense_mask(ROW, COL)
        return f"tl.store({address}, {value}" + (f", mask={masks})" if masks else ")")

    def _own_of_pair(self, buffer: Buffer) -> tuple[str, str]:
        """For which of its own chunks, from its first one on, a program reads a number of two chunks, and where there
        is one. What lies between its rows and a visited chunk is that of the nearest, what is beyond of the farthest.
        """
        if not self.spans:
            return "", ""
        spanned = buffer.name in spanned_pairs(self.plan)
        last = "" if (self.scan is not None and self.scan.order == LATER) == spanned else f" + {SPANNED} - 1"
        return last, f"col_chunk % {SPANNED} == 0" if spanned else ""

    def _result_place(self, result: Result, rows: str, summed: str | None) -> tuple[str, str | None]:
        """Where a chunk writes its part of a result, and which of its rows have a place there."""
        pointer, cols = self._pointer(OUTPUT, result.name), result.cols
        rows = rows if rows == OWN else result.rows
        if summed is not None and result.kind == PARAM:
            return self._param_summand(result, pointer, summed), None
        if result.name in self.plan.totals:
            return self._dense(pointer, self._own_total(result), rows, cols, False), None
        if result.kind == DENSE:
            return dense_gradient(pointer, ROW), dense_mask(ROW, ROW)
        if result.kind == PARAM:
            return self._dense(pointer, self.own_tile, rows, cols, False), None
        own, shift = self._token_mask(0, False, rows), result.offset
        if not shift:
            return self._output_address(pointer, rows, cols, summed=summed), own
        moved = self._token_mask(shift, False, rows)
        start = f"(start {'+' if shift > 0 else '-'} {abs(shift)})"
        address = self._output_address(pointer, rows, cols, start, summed)
        return address, " & ".join(f"({m})" for m in (own, moved) if m)

    def _own_total(self, result: Result) -> str:
        """The number of the summand of a sequence, or of its segment."""
        in_segments = result.name in self.plan.segment_totals
        return f"(sequence * {SEGMENTS} + {OWN_SEGMENT})" if in_segments else "sequence"

    def _param_summand(self, result: Result, pointer: str, axis: str) -> str:
        """Where one block's summand of a parameter's result goes."""
        part = self._own_total(result) if result.name in self.plan.totals else self.own_tile
        summand = f"({part} * blocks_of_{word(axis)} + block_of_{word(axis)})"
        return self._dense(pointer, summand, result.rows, result.cols, False)

    def _read(self, address: str, masks: str) -> str:
        return f"tl.load({address}, mask={masks}, other=0.0)" if masks else f"tl.load({address})"

    # ---- parameters ---------------------------------------------------------------------------------------------

    def _pointer(self, kind: str, name: str) -> str:
        """The pointer parameter of a tensor of the launcher."""
        symbol = self.symbols[kind, name]
        if symbol not in self.pointers:
            self.pointers[symbol] = [Argument(self.names.new(f"{symbol}_ptr"), symbol)]
        return self.pointers[symbol][0].name

    def buffer_pointer(self, name: str) -> str:
        """The parameter that points to a buffer."""
        return self._pointer(BUFFER_SYMBOL, name)

    def input_pointer(self, name: str) -> str:
        """The pointer parameter of an input that has been loaded."""
        return self.pointers[self.symbols[INPUT, name]][0].name

    def _strided(self, name: str, kind: str, rows: str, cols: str) -> str:
        """The variable that points to a caller's tensor for this batch and head; registers pointer and strides."""
        symbol = self.symbols[INPUT, name]
        if symbol not in self.bases:
            pointer = self._pointer(INPUT, name)
            leading = ("b", "t", "h") if kind in (TOKEN, PAST) else ("h",)
            leading = (*leading, "row", "col") if kind == DENSE else leading
            dims = [*leading, *map(word, tensor_axes(rows, cols, kind))]
            strides = [
                Argument(self.names.new(f"{symbol}_stride_{d}"), f"{symbol}.stride({i})") for i, d in enumerate(dims)
            ]
            self.pointers[symbol] += strides
            if kind == PAST:
                self.growing.append(strides[0].name)
            base = self.names.new(f"{symbol}_base")
            named = dict(zip(leading, strides, strict=False))
            head = "head"
            if name in self.facts.grouped:
                group = Argument(self.names.new(f"{symbol}_group"), f"heads // {symbol}.shape[2]")
                self.pointers[f"{symbol} group"] = [group]
                head = f"(head // {group.name})"
            first = ("t", "origin") if self.facts.packed else ("b", "batch")
            terms = [f"{index} * {named[i].name}" for i, index in (first, ("h", head)) if i in named]
            self.bases[symbol] = f"{base} = {pointer} + {' + '.join(terms)}"
        return self.bases[symbol].split(" ", 1)[0]

    def _strides(self, name: str) -> list[Argument]:
        """The stride parameters of a caller's tensor, in the order of its dimensions."""
        return self.pointers[self.symbols[INPUT, name]][1:]

    def _dense_param(self, node: Node) -> str:
        base = self._strided(node["name"], DENSE, node.type.rows, node.type.cols)
        row, col = (a.name for a in self._strides(node["name"])[-2:])
        sides = ROWS[node.type.rows], ROWS[node.type.cols]
        return dense_address(base, (row, col), node["block"], node["other"], sides)

    # ---- addresses ----------------------------------------------------------------------------------------------

    def _token_address(self, node: Node) -> str:
        name, rows, cols = node["name"], node.type.rows, node.type.cols
        base = self._strided(name, TOKEN, rows, cols)
        stride = self._strides(name)[1].name
        start = "col_start" if node["block"] == COL else "start"
        shift = node["offset"]
        first = f"({start} {'+' if shift > 0 else '-'} {abs(shift)})" if shift else start
        return self._tile_address(f"{base} + {first} * {stride}", name, rows, cols, stride)

    def _tile_address(self, base: str, name: str, rows: str, cols: str, row_stride: str = "") -> str:
        """A tile of a strided tensor: its dimension strides are the last ones registered."""
        kind_axes = tensor_axes(rows, cols, TOKEN if row_stride else PARAM)
        strides = [a.name for a in self._strides(name)[-len(kind_axes) :]] if kind_axes else []
        terms = [base]
        if rows in TOKEN_AXES:
            terms.append(f"{ROWS[rows]}[:, None] * {row_stride}")
        elif rows != ONE:
            terms.append(f"{over(rows)}[:, None] * {strides[0]}")
        if cols != ONE:
            columns = (over(cols),) if len(axis_parts(cols)) == 1 else lane_indices(cols)
            steps = strides[-len(columns) :]
            terms += [f"{name}[None, :] * {step}" for name, step in zip(columns, steps, strict=True)]
        return " + ".join(terms)

    def _buffer_address(
        self, buffer: Buffer, col: bool, transposed: bool = False, segment: str = VISITED, rows: str = CHUNK
    ) -> str:
        """A tile of a buffer; of one PER_SEGMENT that of this segment; with the axis OWN as `rows`, several of them."""
        rows = OWN if rows == OWN else buffer.rows
        rows, cols = (buffer.cols, rows) if transposed else (rows, buffer.cols)
        pointer = self._pointer(BUFFER_SYMBOL, buffer.name)
        if buffer.extent == PER_CHUNK:
            tile = "there" if col else "here"
        elif buffer.extent == PER_SEQUENCE:
            tile = "sequence"
        elif buffer.extent == PER_SPLIT:
            tile = "(here * splits + split)"
        elif buffer.extent == PER_SEGMENT:
            tile = f"(sequence * {SEGMENTS} + {segment})"
        else:
            return self._output_address(pointer, rows, cols, "col_start" if col else "start")
        return self._dense(pointer, tile, rows, cols, transposed)

    def _state_address(self, pointer: str, rows: str, cols: str, transposed: bool) -> str:
        return self._dense(pointer, "sequence", rows, cols, transposed)

    def _dense(self, pointer: str, tile: str, rows: str, cols: str, transposed: bool) -> str:
        """A tile of a contiguous tensor of tiles; `transposed`: in memory its columns come first."""
        sizes = [s for s in (self._size(rows), self._size(cols)) if s != "1"]
        base = f"{pointer} + {tile}{_times(sizes)}"
        row_step, col_step = ("1", self._size(rows)) if transposed else (self._size(cols), "1")
        return " + ".join([base, *self._index(rows, "[:, None]", row_step), *self._index(cols, "[None, :]", col_step)])

    def _output_address(
        self, pointer: str, rows: str, cols: str, start: str = "start", summed: str | None = None
    ) -> str:
        """A tile of a contiguous `[B, T, H, *dims]` tensor; `summed`: of `[B, T, H, blocks of that axis, *dims]`."""
        has_tokens = rows in (CHUNK, OWN)
        sizes = [s for s in ("1" if has_tokens else self._size(rows), self._size(cols)) if s != "1"]
        place, steps = f"(({self.row_start} + {start}) * heads + head)", sizes
        if summed is not None:
            blocks = f"blocks_of_{word(summed)}"
            place, steps = f"({place} * {blocks} + block_of_{word(summed)})", [blocks, *sizes]
        base = f"{pointer} + {place}{_times(sizes)}"
        if has_tokens:
            row_terms = [f"{ROWS[rows]}[:, None] * (heads{''.join(f' * {s}' for s in steps)})"]
        else:
            row_terms = self._index(rows, "[:, None]", self._size(cols))
        return " + ".join([base, *row_terms, *self._index(cols, "[None, :]", "1")])

    def _index(self, axis: str, place: str, step: str) -> list[str]:
        if axis == ONE:
            return []
        index = (ROWS.get(axis) or self._flat(axis)) + place
        return [index if step == "1" else f"{index} * {step}"]

    def _flat(self, axis: str) -> str:
        """The position along an axis in contiguous memory."""
        if len(axis_parts(axis)) == 1:
            return over(axis)
        outer, inner = lane_indices(axis)
        return f"({outer} * {size_name(axis_parts(axis)[1])} + {inner})"

    def _size(self, axis: str) -> str:
        # memory is laid out by chunks
        return {CHUNK: "CHUNK", OWN: "CHUNK", ONE: "1"}.get(axis) or " * ".join(map(size_name, axis_parts(axis)))

    # ---- masks --------------------------------------------------------------------------------------------------

    def _token_mask(self, offset: int, col: bool, rows: str) -> str | None:
        """Which tokens of a (shifted) chunk lie inside the sequence; None when all do."""
        prefix = "col_" if col else ""
        if rows not in (CHUNK, OWN):
            if offset == 0:
                return None
            return f"{prefix}start + {offset} < time" if offset > 0 else f"{prefix}start >= {-offset}"
        if offset == 0:
            return f"{prefix}inside[:, None]"
        row = ROWS[rows]
        if offset > 0:
            return f"({row} < {prefix}left - {offset})[:, None]"
        return f"(({row} + {prefix}start >= {-offset}) & ({row} < {prefix}left + {-offset}))[:, None]"

    def _masks(self, rows: str, cols: str, inside: str | None) -> str:
        masks = [self.validity(axis, side) for side, axis in ((0, rows), (1, cols)) if self.is_padded(axis)]
        both = ([inside] if inside else []) + masks
        return " & ".join(both if len(both) == 1 or not inside or rows in TOKEN_AXES else [f"({inside})", *masks])

    # ---- definitions --------------------------------------------------------------------------------------------

    def grid_axes(self) -> list[str]:
        return [axis for axis, role in self.kernel.roles if role == GRID]

    def axis_definitions(self) -> list[tuple[str, str]]:
        """Index vectors of the dimension axes: (name, statement)."""
        lines = []
        for axis, role in self.kernel.roles:
            whole = self._steps(axis)
            first = f"block_of_{word(axis)} * {block_name(axis)} + " if role == GRID else ""
            lines.append((over(axis), f"{over(axis)} = {first}{whole}"))
        return lines + [definition for axis in self.lanes for definition in self._lane_definitions(axis)]

    def _steps(self, axis: str) -> str:
        """The indices of a block. Where a thread holds whole columns it takes two of them at a time: with more, the
        threads that the block has no columns for would hold other rows of these."""
        steps = f"tl.arange(0, {block_name(axis)})"
        return f"tl.max_contiguous({steps}, 2)" if not self.lanes and self._scans_columns else steps

    @property
    def _scans_columns(self) -> bool:
        return any(n.op == "scan" and self.holds_columns(n) for n in walk(self.kernel.roots()))

    def _lane_definitions(self, axis: str) -> Iterator[tuple[str, str]]:
        """Which entry of a matrix each lane is: its row and its column."""
        blocks = [block_name(part) for part in axis_parts(axis)]
        lane = f"tl.arange(0, {' * '.join(blocks)})"
        for name, part, step in zip(lane_indices(axis), axis_parts(axis), ("//", "%"), strict=True):
            first = f"block_of_{word(part)} * {block_name(part)} + " if self.kernel.role(part) == GRID else ""
            yield name, f"{name} = {first}{lane} {step} {blocks[1]}"

    def axis_constants(self, axis: str) -> tuple[str, str]:
        """The compile-time parameters of an axis: block and size."""
        return block_name(axis), size_name(axis)


def _times(sizes: list[str]) -> str:
    """A factor that is the product of sizes."""
    return f" * {sizes[0]}" if len(sizes) == 1 else f" * ({' * '.join(sizes)})" if sizes else ""


def lane_indices(axis: str) -> tuple[str, str]:
    """The variables that hold, for every lane of a matrix, its row and its column."""
    return f"{over(axis)}_outer", f"{over(axis)}_inner"


def over(axis: str) -> str:
    """The variable that holds the indices along an axis."""
    return f"over_{word(axis)}"
