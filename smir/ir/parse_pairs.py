"""Reads the text of pair IR."""

from smir.ir.graph import Node
from smir.ir.mixer import Mixer
from smir.ir.pairs import PairProgram, PairRead
from smir.ir.parse_mixer import parse_mixer_ir
from smir.ir.reader import Reader, Scope, check_once, end_line, read_key, read_named, read_output, read_value
from smir.ir.reader import read_value_type as value_type


def parse_pairs(reader: Reader) -> PairProgram:
    scope: Scope = {}
    mixers: list[Mixer] = []
    vectors: list[tuple[str, Node]] = []
    reads: list[PairRead] = []
    outputs: list[Node] = []
    opening = reader.block(
        lambda line: line.expect("pairs"),
        {
            "mixer": lambda: mixers.append(parse_mixer_ir(reader)),
            "%": lambda: read_value(reader, scope, value_type),
            "vector": lambda: vectors.append(read_named(reader, scope)),
            "read": lambda: reads.append(_read(reader, scope)),
            "output": lambda: outputs.append(read_output(reader, scope)),
        },
    )
    check_once(opening, mixers, "mixer")
    check_once(opening, outputs, "output")
    return PairProgram(mixers[0], tuple(vectors), tuple(reads), outputs[0])


def _read(reader: Reader, scope: Scope) -> PairRead:
    line = reader.line
    line.take()
    name = line.name()
    line.expect("=")
    kind, scores = line.word("a kind"), read_key(line, scope, "scores")
    if scores is None:
        line.fail("`scores=`")
    parts = {key: read_key(line, scope, key) for key in ("mask", "value", "channels")}
    return PairRead(name, kind, scores, end_line(reader, line, parts.pop("mask")), **parts)
