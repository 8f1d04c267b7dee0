"""Prints a kernel plan as a readable numpy program that runs with numpy alone."""

import inspect
from collections.abc import Callable, Iterable, Mapping

from smir.backends.numpy_reference import standalone, tile_ops
from smir.backends.numpy_reference.emit_expressions import Region, Writer
from smir.backends.numpy_reference.emit_names import Names
from smir.backends.numpy_reference.hoisting import frontier, one_sided
from smir.errors import BackendError, IRError
from smir.ir.dims import Dim
from smir.ir.graph import Node, walk
from smir.ir.kernel import Kernel, KernelPlan, Loop, Store
from smir.ir.tile import BUFFER, CARRIED, CHUNK, COL, DENSE, ONE, PARAM, POSITION, TOKEN, axis_parts
from smir.ir.tile_program import ITSELF, QUADRATIC, STEP, Carry, TileLeaf

OUTPUT = "y"
_HELPERS: dict[str, Callable[..., object]] = {
    f.__name__: f
    for module in (standalone, tile_ops)
    for f in vars(module).values()
    if inspect.isfunction(f) and f.__module__ == module.__name__
}
_OWN = ("np", "run", "state", "chunk", "dtype", "counts", "B", "T", "H", "C", "n", "c", "level", "distance", "rows",
        "cols", OUTPUT, "wide", "final", "Any", "Array", "Iterator")  # fmt: skip


def emit_numpy(plan: KernelPlan, *, chunk: int = 64) -> str:
    """The program's text: `run(<inputs and parameters>, state=None, chunk=...) -> (y, state)`.

    Inputs are `[B, T, H, *dims]`, parameters `[H, *dims]`, states `[B, H, *dims]` by name, as everywhere; names that
    Python or the program needs for itself get an underscore. Raises BackendError when a dimension can't be read off
    any array.
    """
    return _Program(plan, chunk).text()


class _Program:
    def __init__(self, plan: KernelPlan, chunk: int) -> None:
        self.plan, self.chunk = plan, chunk
        self.names = Names((*_OWN, *_HELPERS))
        self.names.of("mixer", plan.name)
        self.writer = Writer(self.names)
        self.arguments = {leaf.name: self.names.of("argument", leaf.name) for leaf in plan.leaves}
        self.carries = [c for k in plan.kernels for loop in k.loops for c in loop.scan.carries]
        self.tiles: dict[Node, str] = {}
        self.shared: dict[Node, str] = {}

    def text(self) -> str:
        self._sizes()
        self._loads()
        for kernel in self.plan.kernels:
            self._kernel(kernel)
        self._return()
        body = "\n".join(self.writer.lines)
        return f"{self._header()}\n\n{self._helper_source()}\n\n{self._signature()}\n{body}\n"

    # ---- the frame ----------------------------------------------------------------------------------------------

    def _header(self) -> str:
        shapes = "\n".join(f"    {self.arguments[leaf.name]}: {_shape_text(leaf)}" for leaf in self.plan.leaves)
        iterator = "from collections.abc import Iterator\n" if "levels" in self.writer.helpers else ""
        kernels = "\n".join(f"    {k.name}: {k.formula}" for k in self.plan.kernels)
        return (
            f'"""{self.plan.name}, {self.plan.form} form, on numpy arrays.\n\n'
            "A tile has axes [batch, head, chunk, row, column]; X_before is X before the chunk (or token).\n\n"
            f'Inputs\n{shapes}\n\nSteps\n{kernels}\n"""\n\n'
            f"{iterator}from typing import Any\n\nimport numpy as np\n\nArray = Any"
        )

    def _helper_source(self) -> str:
        needed: dict[str, None] = {}
        waiting = list(self.writer.helpers)
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed[name] = None
                code = _HELPERS[name].__code__
                waiting += [other for other in code.co_names if other in _HELPERS and other != name]
        ordered = [name for name in _HELPERS if name in needed]
        return "\n\n".join("\n" + inspect.getsource(_HELPERS[name]).rstrip() for name in ordered).strip("\n")

    def _signature(self) -> str:
        arguments = ", ".join([*self.arguments.values(), "state=None"])
        extra = "" if self._single() else f", chunk={self.chunk}"
        return (
            f'\n@np.errstate(all="ignore")\ndef run({arguments}{extra}):\n'
            '    """y `[B, T, H, ..]` and the final states by name. `state`: initial states by name, `[B, H, ..]`."""'
        )

    def _single(self) -> bool:
        """Whether the form decides the chunk: one token, or the whole sequence."""
        inner = any(_is_inner(k) for k in self.plan.kernels)
        return self.plan.form == STEP or (self.plan.form == QUADRATIC and not inner)

    def _sizes(self) -> None:
        write, tokens = self.writer.line, [leaf for leaf in self.plan.leaves if leaf.kind == TOKEN]
        if not tokens:
            raise BackendError("a mixer without inputs has no sequence to run over")
        first = self.arguments[tokens[0].name]
        write(f"B, T, H = {first}.shape[:3]")
        write(f"C = {'1' if self.plan.form == STEP else 'T' if self._single() else 'chunk'}")
        write("n = -(-T // C)  # chunks")
        for name, size in self._dimension_sizes().items():
            write(f"{self.names.of('dimension', name)} = {size}")
        write(f"dtype = np.result_type({', '.join(f'{self.arguments[leaf.name]}.dtype' for leaf in tokens)})")
        write("wide = np.result_type(dtype, np.float32)  # carried tiles hold at least this")
        if any(n.op == "valid_rows" for k in self.plan.kernels for n in walk(k.roots())):
            write("counts = np.minimum(C, T - C * np.arange(n)).reshape(1, 1, n, 1, 1)  # tokens in every chunk")
        write("state, final = state or {}, {}")

    def _dimension_sizes(self) -> dict[str, str]:
        """Every dimension name with the expression of its size, read off an argument's shape."""
        found: dict[str, str] = {}
        for leaf in self.plan.leaves:
            for axis, position in _leaf_axes(leaf):
                dim = Dim.parse(axis)
                if len(dim.terms) == 1 and len(dim.terms[0][0]) == 1:
                    (((name,), factor),) = dim.terms
                    size = f"{self.arguments[leaf.name]}.shape[{position}]"
                    if factor != 1:
                        size = f"{size} * {factor.denominator} // {factor.numerator}"
                    if name not in found or factor == 1:
                        found[name] = size
        types = {n.type for k in self.plan.kernels for n in walk(k.roots())}
        axes = {a for t in types for a in (t.rows, t.cols)} | {a for c in self.carries for a in (c.rows, c.cols)}
        missing = {n for a in axes - {ONE, CHUNK} for n in Dim.parse(a).names} - set(found)
        if missing:
            raise BackendError(f"no input's shape tells the size of {', '.join(sorted(missing))}")
        return found

    def _loads(self) -> None:
        """Every input and parameter as tiles, once."""
        loads = dict.fromkeys(n for k in self.plan.kernels for n in walk(k.roots()) if n.op == "load")
        seen: dict[str, str] = {}
        for node in loads:
            if node["kind"] in (TOKEN, PARAM, POSITION, DENSE):
                text = self._leaf_text(node)
                if text not in seen:
                    shift = node.get("offset", 0)
                    word = f"{node['name']}_{'next' if shift > 0 else 'past'}_{abs(shift)}" if shift else node["name"]
                    seen[text] = self.names.of("tiles", f"{word}_tiles")
                    self.writer.line(f"{seen[text]} = {text}")
                self.tiles[node] = seen[text]

    def _leaf_text(self, node: Node) -> str:
        if node["kind"] == POSITION:
            return "np.arange(1, n * C + 1, dtype=dtype).reshape(1, 1, n, C, 1)"
        if node["kind"] == DENSE:
            return self.writer.call("dense_chunks", self.arguments[node["name"]], "C")
        argument, (rows, cols) = self.arguments[node["name"]], (node.type.rows, node.type.cols)
        if node["kind"] == PARAM:
            return f"{argument}.reshape(1, H, 1, {self.writer.axis(rows)}, {self.writer.axis(cols)})"
        shift = [str(node["offset"])] if node["offset"] else []
        if rows == CHUNK:
            return self.writer.call("chunks_of", argument, "C", *shift)
        return self.writer.call("tokens_of", argument, self.writer.axis(rows), self.writer.axis(cols), *shift)

    def _return(self) -> None:
        stores = [s for k in self.plan.kernels for s in (*k.stores, *(s for lp in k.loops for s in lp.stores))]
        (y,) = (s.value.type for s in stores if s.target == OUTPUT)
        rows, cols = self.writer.axis(y.rows), self.writer.axis(y.cols)
        write = self.writer.line
        write()
        write(f"y = np.broadcast_to(y, (B, H, n, {rows}, {cols})).astype(dtype)")
        if y.rows == CHUNK:
            write(f"y = np.moveaxis(y.reshape(B, H, n * C, {cols})[:, :, :T], 1, 2)")
            if len(parts := axis_parts(y.cols)) > 1:
                write(f"y = y.reshape(B, T, H, {', '.join(map(self.writer.axis, parts))})")
            units = int(y.cols == ONE)
        else:
            write("y = np.moveaxis(y, 1, 2)")
            units = 0 if y.cols != ONE else 1 if y.rows != ONE else 2
        write(f"return y{'[..., 0]' if units == 1 else '[..., 0, 0]' if units == 2 else ''}, final")

    # ---- kernels ------------------------------------------------------------------------------------------------

    def _kernel(self, kernel: Kernel) -> None:
        self.writer.line()
        self.writer.line(f"# {kernel.name}: {kernel.formula}")
        if kernel.in_segments:
            raise IRError(f"kernel {kernel.name} walks along segments, printed numpy programs along all chunks")
        if not kernel.loops:
            self._parallel(kernel.stores, {})
        elif _is_inner(kernel):
            held: dict[Node, str] = {}
            for loop in kernel.loops:
                held |= self._inner(loop, held)
            self._parallel(kernel.stores, held)
        else:
            for loop in kernel.loops:
                self._sequential(loop)

    def _parallel(self, stores: tuple[Store, ...], known: Mapping[Node, str]) -> None:
        targets = {s.value: self._target(s) for s in stores if s.value not in self.shared}
        texts = self._outside(targets, targets, known)
        for s in stores:
            text = self.shared.get(s.value, texts.get(s.value, ""))
            if text != self._target(s):
                self.writer.line(f"{self._target(s)} = {text}")

    def _outside(
        self, roots: Iterable[Node], wishes: Mapping[Node, str], held: Mapping[Node, str] | None = None
    ) -> dict[Node, str]:
        """Prints values for all chunks at once; later kernels use what has a name by then."""
        roots = tuple(roots)
        region = Region(self.writer, self._load, {**self.shared, **(held or {})})
        texts = dict(zip(roots, region.write(roots, wishes), strict=True))
        if not held:
            self.shared.update(region.named)
        return texts

    def _sequential(self, loop: Loop) -> None:
        writer, carries = self.writer, loop.scan.carries
        loads = {c.load: self._carry_name(c) for c in carries}
        roots = (*(s.value for s in loop.stores), *(c.next for c in carries))
        outside = frontier(roots, set(loads))
        texts = self._outside(outside, self._named(outside))
        for c in carries:
            self._start(c, loads[c.load])
        for s in loop.stores:
            rows, cols = writer.axis(s.value.type.rows), writer.axis(s.value.type.cols)
            writer.line(f"{self._target(s)} = np.empty((B, H, n, {rows}, {cols}), wide)")
        order = "range(n)" if loop.scan.order == "forward" else "reversed(range(n))"
        writer.line(f"for c in {order}:")
        writer.depth += 1
        inside = {n: _at_chunk(n, text) for n, text in texts.items()}
        results = Region(writer, self._load, {**inside, **loads}, "counts[:, :, c]").write(roots)
        for s, text in zip(loop.stores, results, strict=False):
            writer.line(f"{self._target(s)}[:, :, c] = {text}")
        moved = results[len(loop.stores) :]
        if carries:
            writer.line(f"{', '.join(loads.values())} = {', '.join(moved)}")
        if not roots:
            writer.line("pass")
        writer.depth -= 1
        for s in loop.final_stores:
            self._finish(s, loads)

    def _inner(self, loop: Loop, held: Mapping[Node, str]) -> dict[Node, str]:
        """All row chunks meet the column chunk at one distance at once; `held` are the carries of earlier loops."""
        writer, carries = self.writer, loop.scan.carries
        loads = {c.load: self._carry_name(c) for c in carries}
        roots = tuple(c.next for c in carries)
        outside = one_sided(roots)
        texts = self._outside(outside, self._named(outside))
        self._inner_starts(carries, loads, held)
        if not carries:
            return {}
        reach = loop.scan.reach
        last = "n" if reach is None else f"min(n, -(-{reach} // C) + 1)"
        writer.line("for distance in range(1):" if loop.scan.order == ITSELF else f"for distance in range(1, {last}):")
        writer.depth += 1
        late, early = "slice(distance, n)", "slice(0, n - distance)"
        first, second = (late, early) if loop.scan.order == "earlier" else (early, late)
        writer.line(f"rows, cols = {first}, {second}")
        inside = {n: _at_part(n, text) for n, text in texts.items()}
        inside |= {n: f"{name}[:, :, rows]" for n, name in loads.items()}
        results = Region(writer, self._load, inside, "counts[:, :, rows]").write(roots)
        for name, text in zip(loads.values(), results, strict=True):
            if text != f"{name}[:, :, rows]":
                writer.line(f"{name}_new = {text}")
        for name, text in zip(loads.values(), results, strict=True):
            if text != f"{name}[:, :, rows]":
                writer.line(f"{name}[:, :, rows] = {name}_new")
        writer.depth -= 1
        return dict(loads)

    def _inner_starts(self, carries: tuple[Carry, ...], loads: Mapping[Node, str], held: Mapping[Node, str]) -> None:
        """What the carries of every row chunk hold before the first column chunk."""
        texts = self._outside(dict.fromkeys(c.start for c in carries if c.start is not None), {}, held)
        for c in carries:
            name, rows, cols = loads[c.load], self.writer.axis(c.rows), self.writer.axis(c.cols)
            if c.start is not None:
                shape = f"(B, H, n, {rows}, {cols})"
                self.writer.line(f"{name} = {self.writer.call('started', texts[c.start], shape, 'wide')}")
            else:
                self._start(c, name)
                self.writer.line(f"{name} = np.repeat({name}[:, :, None], n, axis=2)")

    def _start(self, carry: Carry, name: str) -> None:
        rows, cols = self.writer.axis(carry.rows), self.writer.axis(carry.cols)
        given = f"state.get({carry.state!r})" if carry.state else "None"
        arguments = [given, f"(B, H, {rows}, {cols})", repr(float(carry.initial)).replace("inf", "np.inf"), "wide"]
        flag = ["transposed=True"] if carry.transposed else []
        self.writer.line(f"{name} = {self.writer.call('start_state', *arguments, *flag)}")

    def _finish(self, store: Store, loads: Mapping[Node, str]) -> None:
        """The final state in its declared shape: trailing axes of size one are no declared dimensions."""
        (text,) = Region(self.writer, self._load, dict(loads)).write([store.value])
        rows, cols = store.value.type.rows, store.value.type.cols
        if store.transposed:
            text, rows, cols = self.writer.call("transpose", text), cols, rows
        units = "" if cols != ONE else "[..., 0]" if rows != ONE else "[..., 0, 0]"
        if len(parts := axis_parts(cols)) > 1:
            units = f".reshape(B, H, {', '.join(map(self.writer.axis, parts))})"
        self.writer.line(f"final[{store.target!r}] = {text}{units}.astype(dtype)")

    def _load(self, node: Node) -> str:
        if node["kind"] == BUFFER:
            return self.names.of("buffer", node["name"])
        if node["kind"] == CARRIED:
            raise IRError(f"a kernel loads the carried tile {node['name']} of another one")
        if node["kind"] == DENSE:
            pairs = ("rows", "cols") if node["other"] == COL else ("slice(0, n)", "slice(0, n)")
            return self.writer.call("tiles_of_pairs", self.tiles[node], *pairs)
        return self.tiles[node]

    def _target(self, store: Store) -> str:
        return OUTPUT if store.target == OUTPUT else self.names.of("buffer", store.target)

    def _carry_name(self, carry: Carry) -> str:
        return self.names.of("carried", carry.name)

    def _named(self, nodes: Iterable[Node]) -> dict[Node, str]:
        """Names for values that a loop slices: they must not be spelled out in it."""
        return {n: self.names.fresh(n) for n in nodes if n.op not in ("load", "const") and n not in self.shared}


def _is_inner(kernel: Kernel) -> bool:
    return any(loop.scan.order in (ITSELF, "earlier", "later") for loop in kernel.loops)


def _leaf_axes(leaf: TileLeaf) -> list[tuple[str, int]]:
    """The named axes of an argument and their positions in its shape."""
    if leaf.kind == DENSE:
        return []
    start = 3 if leaf.kind == TOKEN else 1
    is_row = leaf.rows == CHUNK or (leaf.kind == PARAM and leaf.rows == ONE)
    axes = axis_parts(leaf.cols) if is_row else (leaf.rows, leaf.cols)
    return [(axis, start + i) for i, axis in enumerate(axes) if axis != ONE]


def _shape_text(leaf: TileLeaf) -> str:
    axes = ["B", "T", "H"] if leaf.kind == TOKEN else ["H", "T", "T"] if leaf.kind == DENSE else ["H"]
    return f"[{', '.join([*axes, *(axis for axis, _ in _leaf_axes(leaf))])}]"


def _spans_chunks(node: Node) -> bool | None:
    """Whether a value has one tile per chunk (True), one for all (False), or no batch axes at all (None)."""
    loads = [n for n in walk([node]) if n.op in ("load", "valid_rows")]
    if not loads:
        return None
    return any(n.op == "valid_rows" or n["kind"] in (TOKEN, BUFFER, POSITION, DENSE) for n in loads)


def _at_chunk(node: Node, text: str) -> str:
    spans = _spans_chunks(node)
    return text if spans is None else f"{text}[:, :, c]" if spans else f"{text}[:, :, 0]"


def _at_part(node: Node, text: str) -> str:
    part = "cols" if any(n.get("block") == COL for n in walk([node])) else "rows"
    return f"{text}[:, :, {part}]" if _spans_chunks(node) else text
