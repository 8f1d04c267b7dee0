"""Every level of every library spec is accepted by its verifier and survives its text."""

from pathlib import Path

import pytest

import smir
from smir.frontends import parse_mixer
from smir.ir.mixer import Mixer
from smir.ir.operator import OperatorProgram
from smir.ir.parser import parse_ir
from smir.ir.printer import IR, print_ir
from smir.ir.verifier import verify
from smir.passes.lower_chunked import lower_chunked
from smir.passes.lower_quadratic import lower_quadratic
from smir.passes.lower_step import lower_step
from smir.passes.masks_to_states import masks_to_states
from smir.passes.partition import partition
from smir.passes.recognise import recognise
from smir.source import Source

SPECS = sorted((Path(smir.__file__).parent / "library").glob("*.smir"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_all_levels(path: Path) -> None:
    mixer = parse_mixer(Source(path.name, path.read_text()))
    recurrence = masks_to_states(mixer) if mixer.masked else mixer
    assert isinstance(recurrence, Mixer)
    operators = recognise(recurrence)
    assert isinstance(operators, OperatorProgram)
    tiles = (lower_step(recurrence), lower_chunked(operators), lower_quadratic(operators))
    levels: list[IR] = [mixer, recurrence, operators, *tiles, *map(partition, tiles)]
    for ir in levels:
        verify(ir)
        assert parse_ir(print_ir(ir)) == ir
