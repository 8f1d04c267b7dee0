"""Every level of every library spec is accepted by its verifier and survives its text."""

import pytest

from smir.compiler import compile_spec
from smir.ir.parser import parse_ir
from smir.ir.printer import IR, print_ir
from smir.ir.verifier import verify
from smir.library import load, names


@pytest.mark.parametrize("name", names())
def test_all_levels(name: str) -> None:
    done = compile_spec(load(name))
    known = (done.mixer, done.recurrence, done.operators, done.pairs, *done.tiles.values(), *done.plans.values())
    levels: list[IR] = [ir for ir in known if ir is not None]
    assert len(levels) >= 4
    for ir in levels:
        verify(ir)
        assert parse_ir(print_ir(ir)) == ir
