"""Every address that a printed kernel computes, at sizes where 32 bits don't hold it, in 32 and 64 bits as on a GPU.

A kernel's index variables and addresses are evaluated twice, by numpy's integers, which wrap as the GPU's do, and by
Python's, which are exact. What differs is an address that overflows.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from smir.backends.triton_gpu.emit_kernel import PrintedKernel
from smir.backends.triton_gpu.frame import Argument

# 2^31 is far behind in elements of one input, 16 x 262144 x 64 x 128 of them.
BATCH, TIME, HEADS, SIZE, CHUNK, BLOCK = 16, 1 << 18, 64, 128, 64, 64
SEQUENCES = 5
Number = Any


@dataclass(frozen=True)
class Arithmetic:
    """Integers of a GPU (`exact` off: numpy's of their type) or of mathematics."""

    exact: bool

    def number(self, value: int) -> Number:
        """What Triton makes of an integer argument: 32 bits if they hold it."""
        return value if self.exact else np.int32(value) if abs(value) < 2**31 else np.int64(value)

    def cast(self, value: Number, kind: str) -> Number:
        if self.exact:
            return value
        return np.asarray(value).astype(kind)[()]

    def arange(self, first: int, last: int) -> Number:
        return np.arange(first, last).astype(object if self.exact else np.int32)


class Language:
    """The part of `tl` that addresses are made of."""

    int32, int64 = "int32", "int64"

    def __init__(self, arithmetic: Arithmetic, program: int) -> None:
        self.arithmetic, self.program = arithmetic, program
        self.cast, self.arange = arithmetic.cast, arithmetic.arange

    def program_id(self, axis: int) -> Number:
        return self.arithmetic.number(self.program)

    def cdiv(self, a: Number, b: Number) -> Number:
        return (a + b - 1) // b

    def minimum(self, a: Number, b: Number) -> Number:
        return min(a, b)

    def maximum(self, a: Number, b: Number) -> Number:
        return max(a, b)

    def max_contiguous(self, value: Number, count: int) -> Number:
        return value

    def load(self, address: "Entry", **_: Any) -> Number:
        return self.arithmetic.number(address.table(int(address.index)))


@dataclass(frozen=True)
class Entry:
    """A place in the table of packed sequences."""

    table: Callable[[int], int]
    index: int = 0

    def __add__(self, other: Number) -> "Entry":
        return Entry(self.table, self.index + int(other))


def overflowing(printed: PrintedKernel, shapes: Mapping[str, tuple[int, ...]], packed: bool) -> list[str]:
    """The addresses of a kernel that differ. `shapes` of the caller's tensors by launcher name, contiguous."""
    function = next(n for n in ast.parse(printed.source).body if isinstance(n, ast.FunctionDef))
    with np.errstate(over="ignore"):
        ways = [_arguments(printed, shapes, packed, Arithmetic(exact)) for exact in (False, True)]
        found = [list(_addresses(function, known)) for known in ways]
    texts = [text for text, _ in found[0]]
    assert texts == [text for text, _ in found[1]] and texts, "no address was found"
    pairs = zip(found[0], found[1], strict=True)
    return [text for (text, narrow), (_, exact) in pairs if np.any(np.asarray(narrow) != np.asarray(exact))]


def _arguments(
    printed: PrintedKernel, shapes: Mapping[str, tuple[int, ...]], packed: bool, arithmetic: Arithmetic
) -> dict[str, Any]:
    """Values for all parameters of a kernel, and the last program of its grid."""
    chunks = TIME // CHUNK
    tokens = BATCH * TIME if packed else TIME
    all_chunks = tokens // CHUNK + SEQUENCES - 1
    sizes = {"time": TIME, "heads": HEADS, "chunks": chunks, "all_chunks": all_chunks, "sequences": SEQUENCES}
    # the last sequence is half of all tokens
    tables = {
        "cu_seqlens_ptr": lambda n: tokens if n == SEQUENCES else tokens // 2 + n - SEQUENCES + 1,
        "first_chunks_ptr": lambda n: tokens // 2 // CHUNK + n,
        "sequence_of_ptr": lambda n: SEQUENCES - 1,
    }
    blocks = (SIZE // BLOCK) ** len(printed.grid_axes)
    rows = (1 if packed else BATCH) * HEADS
    places = rows if printed.sequential else rows * (tokens // CHUNK if packed else chunks)
    if packed and printed.sequential:
        places = SEQUENCES * HEADS
    found: dict[str, Any] = {"tl": Language(arithmetic, places * blocks - 1)}
    for argument in printed.arguments:
        if argument.name in tables:
            found[argument.name] = Entry(tables[argument.name])
        elif argument.name in sizes:
            found[argument.name] = arithmetic.number(sizes[argument.name])
        elif argument.name.endswith("_ptr"):
            found[argument.name] = arithmetic.cast(0, "int64")
        else:
            found[argument.name] = arithmetic.number(_argument(argument, shapes))
    for constant in printed.constants:
        found[constant] = {"CHUNK": CHUNK}.get(constant, BLOCK if constant.startswith("BLOCK_") else SIZE)
    return found


def _argument(argument: Argument, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The value of a stride, or of how many heads share one."""
    tensor, _, axis = argument.value.partition(".stride(")
    if not axis:
        return 1
    return int(np.prod(shapes[tensor][int(axis.rstrip(")")) + 1 :], dtype=object))


def _addresses(node: ast.AST, known: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Text and value of every address in statements, visited as the last program's last iteration does."""
    for statement in node.body:
        for call in (n for n in _own(statement) if isinstance(n, ast.Call)):
            if ast.unparse(call.func) in ("tl.load", "tl.store"):
                place = _value(call.args[0], known)
                if not isinstance(place, Entry):
                    yield ast.unparse(call.args[0]), place
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                known[statement.targets[0].id] = _value(statement.value, known)
            except (NameError, AttributeError, TypeError):
                known.pop(statement.targets[0].id, None)  # a tile of numbers, no index
        elif isinstance(statement, ast.For):
            if "level" not in ast.unparse(statement.target):
                assert isinstance(statement.iter, ast.Call)
                last = _value(statement.iter.args[-1], known) - 1
                known[ast.unparse(statement.target)] = last if last > 0 else last * 0
            yield from _addresses(statement, known)
        elif isinstance(statement, ast.If) and "return" not in ast.unparse(statement):
            yield from _addresses(statement, known)
            yield from _addresses(ast.Module(statement.orelse, []), known)


def _own(statement: ast.stmt) -> Iterator[ast.AST]:
    """The expressions of a statement itself, not of those nested in it."""
    if isinstance(statement, (ast.For, ast.If)):
        return iter(())
    return ast.walk(statement)


def _value(expression: ast.expr, known: Mapping[str, Any]) -> Any:
    return eval(compile(ast.Expression(expression), "kernel", "eval"), {"__builtins__": {}}, dict(known))
