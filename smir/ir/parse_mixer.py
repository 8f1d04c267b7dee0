"""Reads the text of mixer IR and of operator IR."""

from typing import Any

from smir.errors import IRError
from smir.ir.graph import Node
from smir.ir.mixer import INPUT, PARAM, Declaration, Mixer, State
from smir.ir.operator import Decay, Diagonal, Erase, MicroStep, Operator, OperatorProgram, Read, Write
from smir.ir.reader import (
    Reader,
    Scope,
    check_once,
    end_line,
    read_key,
    read_named,
    read_output,
    read_use,
    read_value,
    read_value_type,
)
from smir.ir.text import Line


def parse_mixer_ir(reader: Reader) -> Mixer:
    scope: Scope = {}
    title: list[str] = []
    declarations: list[Declaration] = []
    states: list[tuple[str, tuple[Any, ...], float]] = []
    updates: dict[str, Node] = {}
    outputs: list[tuple[Node, tuple[Any, ...]]] = []
    names: list[tuple[str, Node]] = []

    def head(line: Line) -> None:
        line.expect("mixer")
        title.append(line.name())

    def update() -> None:
        line = reader.line
        name, value = read_named(reader, scope)
        if name in updates or name not in {s[0] for s in states}:
            raise IRError(f"one update for each state, not {name} in line {line.end.line}", line.end)
        updates[name] = value

    def output() -> None:
        line = reader.line
        line.take()
        value = read_use(line, scope)
        line.expect(":")
        outputs.append(end_line(reader, line, (value, line.dims())))

    opening = reader.block(
        head,
        {
            INPUT: lambda: declarations.append(_declaration(reader)),
            PARAM: lambda: declarations.append(_declaration(reader)),
            "state": lambda: states.append(_state(reader)),
            "%": lambda: read_value(reader, scope, read_value_type),
            "update": update,
            "output": output,
            "name": lambda: names.append(read_named(reader, scope)),
        },
    )
    check_once(opening, outputs, "output")
    missing = [name for name, _, _ in states if name not in updates]
    if missing:
        raise IRError(f"state {missing[0]} has no update in the block of line {opening.end.line}", opening.end)
    built = tuple(State(name, dims, initial, updates[name]) for name, dims, initial in states)
    return Mixer(title[0], tuple(declarations), built, *outputs[0], tuple(names))


def _declaration(reader: Reader) -> Declaration:
    line = reader.line
    kind, name = line.take(), line.name()
    line.expect(":")
    dims = line.dims()
    return Declaration(kind, name, dims, end_line(reader, line, line.interval()))


def _state(reader: Reader) -> tuple[str, tuple[Any, ...], float]:
    line = reader.line
    line.take()
    name = line.name()
    line.expect(":")
    dims = line.dims()
    line.expect("=")
    return name, dims, end_line(reader, line, line.number())


# ---- operator IR ------------------------------------------------------------------------------------------------


def parse_operators(reader: Reader) -> OperatorProgram:
    scope: Scope = {}
    mixers: list[Mixer] = []
    operators: list[Operator] = []
    reads: list[Read] = []
    outputs: list[Node] = []

    opening = reader.block(
        lambda line: line.expect("operators"),
        {
            "mixer": lambda: mixers.append(parse_mixer_ir(reader)),
            "%": lambda: read_value(reader, scope, read_value_type),
            "operator": lambda: operators.append(_operator(reader, scope)),
            "read": lambda: reads.append(_read(reader, scope)),
            "output": lambda: outputs.append(read_output(reader, scope)),
        },
    )
    check_once(opening, mixers, "mixer")
    check_once(opening, outputs, "output")
    return OperatorProgram(mixers[0], tuple(operators), tuple(reads), outputs[0])


def _read(reader: Reader, scope: Scope) -> Read:
    line = reader.line
    line.take()
    name = line.name()
    line.expect("=")
    state, when = line.name(), line.word("a moment")
    return Read(name, state, end_line(reader, line, read_use(line, scope)), when)


def _operator(reader: Reader, scope: Scope) -> Operator:
    facts: list[Any] = []
    steps: list[MicroStep] = []

    def head(line: Line) -> None:
        line.expect("operator")
        facts.append(line.name())
        line.expect(":")
        facts.append(line.dim())
        line.expect("x")
        facts.extend((line.dim(), line.word("a direction")))

    def whole(line: Line) -> None:
        head(line)
        facts.append(line.accept("transposed"))

    reader.block(whole, {"step": lambda: steps.append(_micro_step(reader, scope))})
    state, rows, cols, direction, transposed = facts
    return Operator(state, rows, cols, direction, tuple(steps), transposed)


def _micro_step(reader: Reader, scope: Scope) -> MicroStep:
    decays: dict[str, Diagonal] = {}
    writes: list[Write] = []

    def decay() -> None:
        line = reader.line
        line.take()
        if line.head not in ("scalar", "rows", "cols") or line.head in decays:
            line.fail("`scalar`, `rows` or `cols`, once each")
        side, log = line.take(), read_key(line, scope, "log")
        if log is None:
            line.fail("`log=`")
        decays[side] = end_line(reader, line, Diagonal(log, read_key(line, scope, "sign")))

    reader.block(
        lambda line: line.expect("step"), {"decay": decay, "write": lambda: writes.append(_write(reader, scope))}
    )
    return MicroStep(Decay(**decays), tuple(writes))


def _write(reader: Reader, scope: Scope) -> Write:
    line = reader.line
    line.take()
    left = read_key(line, scope, "left")
    if left is None:
        line.fail("`left=`")
    value, vector, erase = read_key(line, scope, "value"), read_key(line, scope, "erase"), None
    if vector is not None:
        line.expect("when")
        line.expect("=")
        erase = Erase(vector, line.word("a moment"))
    return Write(left, value, end_line(reader, line, erase))
