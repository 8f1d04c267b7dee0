"""Reads the text of mixer IR and of operator IR."""

from dataclasses import replace
from typing import Any

from smir.errors import IRError
from smir.ir.expr import const
from smir.ir.graph import Node
from smir.ir.mixer import INPUT, PARAM, Declaration, Mixer, State
from smir.ir.operator import (
    Decay,
    Diagonal,
    Drive,
    Elementwise,
    Erase,
    MicroStep,
    Operator,
    OperatorProgram,
    Read,
    Rotation,
    Stage,
    Write,
)
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
    states: list[State] = []
    updates: dict[str, Node] = {}
    outputs: list[tuple[Node, tuple[Any, ...]]] = []
    names: list[tuple[str, Node]] = []

    def head(line: Line) -> None:
        line.expect("mixer")
        title.append(line.name())

    def update() -> None:
        line = reader.line
        name, value = read_named(reader, scope)
        if name in updates or name not in {s.name for s in states}:
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
    missing = [s.name for s in states if s.name not in updates]
    if missing:
        raise IRError(f"state {missing[0]} has no update in the block of line {opening.end.line}", opening.end)
    built = tuple(replace(s, update=updates[s.name]) for s in states)
    return Mixer(title[0], tuple(declarations), built, *outputs[0], tuple(names))


def _declaration(reader: Reader) -> Declaration:
    line = reader.line
    kind, name = line.take(), line.name()
    line.expect(":")
    dims, group = line.dims(), None
    if line.accept("group"):
        line.expect("=")
        group = line.dim()
    return Declaration(kind, name, dims, end_line(reader, line, line.interval()), group=group)


def _state(reader: Reader) -> State:
    """Its update comes in a line of its own."""
    line = reader.line
    line.take()
    name = line.name()
    line.expect(":")
    dims = line.dims()
    line.expect("=")
    initial, log = line.number(), None
    if line.accept("log"):
        line.expect("=")
        log = line.name()
    state: State = end_line(reader, line, State(name, dims, initial, const(0.0), log=log))
    return state


# ---- operator IR ------------------------------------------------------------------------------------------------


def parse_operators(reader: Reader) -> OperatorProgram:
    scope: Scope = {}
    mixers: list[Mixer] = []
    stages: list[Stage] = []
    reads: list[Read] = []
    outputs: list[Node] = []

    opening = reader.block(
        lambda line: line.expect("operators"),
        {
            "mixer": lambda: mixers.append(parse_mixer_ir(reader)),
            "%": lambda: read_value(reader, scope, read_value_type),
            "operator": lambda: stages.append(_operator(reader, scope)),
            "elementwise": lambda: stages.append(_elementwise(reader, scope)),
            "read": lambda: reads.append(_read(reader, scope)),
            "output": lambda: outputs.append(read_output(reader, scope)),
        },
    )
    check_once(opening, mixers, "mixer")
    check_once(opening, outputs, "output")
    return OperatorProgram(mixers[0], tuple(stages), tuple(reads), outputs[0])


def _read(reader: Reader, scope: Scope) -> Read:
    line = reader.line
    line.take()
    name = line.name()
    line.expect("=")
    state, when = line.name(), line.word("a moment")
    return Read(name, state, end_line(reader, line, read_use(line, scope)), when)


def _elementwise(reader: Reader, scope: Scope) -> Elementwise:
    line = reader.line
    line.take()
    state = line.name()
    line.expect(":")
    kind, direction = line.word("sum, max or logsum"), line.word("a direction")
    parts = {key: read_key(line, scope, key) or line.fail(f"`{key}=`") for key in ("decay", "write")}
    end_line(reader, line, parts)
    return Elementwise(state, direction, kind, **parts)


def _drive(reader: Reader, scope: Scope) -> Drive:
    line = reader.line
    line.take()
    state, when = line.name(), line.word("a moment")
    scale = read_key(line, scope, "scale") or line.fail("`scale=`")
    return Drive(state, when, end_line(reader, line, scale))


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
    angles: dict[str, Node] = {}
    writes: list[Write] = []
    drives: list[Drive] = []

    def rotate() -> None:
        line = reader.line
        line.take()
        if line.head not in ("rows", "cols") or line.head in angles:
            line.fail("`rows` or `cols`, once each")
        side, angle = line.take(), read_key(line, scope, "angle")
        if angle is None:
            line.fail("`angle=`")
        angles[side] = end_line(reader, line, angle)

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
        lambda line: line.expect("step"),
        {
            "rotate": rotate,
            "decay": decay,
            "write": lambda: writes.append(_write(reader, scope)),
            "drive": lambda: drives.append(_drive(reader, scope)),
        },
    )
    return MicroStep(Decay(**decays), tuple(writes), Rotation(**angles), tuple(drives))


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
