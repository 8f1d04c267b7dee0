"""The library: short, documented specs whose names are those of the golden vectors."""

from pathlib import Path

import numpy as np
import pytest

from smir import library
from smir.errors import SpecNameError
from smir.frontends import parse_mixer
from smir.ir.mixer import matrix_shape

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = library.names()
ROWS = """
linear_attention linear_attention_elu_norm retnet gated_rfa gated_rfa_unnorm scalar_decay mamba2_ssd gla hgrn2 rwkv6 dfw
delta_rule gated_delta_rule kda dplr rwkv7 lion_lit lion_d lion_s lion_s_repo
lion_lit_norm lion_d_norm lion_s_norm lion_s_repo_norm bidir_half
""".split()


def test_every_row_has_its_spec():
    assert set(ROWS) <= set(NAMES)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SpecNameError, match="no mixer `glaa`") as caught:
        library.load("glaa")
    assert "gla" in caught.value.hint


@pytest.mark.parametrize("name", ["../library/gla", "gla.smir", "", "__init__", "/etc/passwd"])
def test_only_names_are_loaded(name):
    with pytest.raises(SpecNameError):
        library.load(name)


@pytest.mark.parametrize("name", NAMES)
def test_specs_are_short_and_say_where_they_come_from(name):
    lines = library.load(name).text.splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert lines[: len(header)] == header and 2 <= len(header) <= 4
    assert lines[len(header)] == f"mixer {name}" and len(lines) - len(header) <= 12
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("name", ROWS)
def test_names_and_dimensions_are_those_of_the_golden_vectors(name):
    mixer = parse_mixer(library.load(name))
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        shapes = {key[2:]: arrays[key].shape for key in arrays.files if key.startswith("a/")}
    prefix = "final_state_"
    states = {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}
    sizes = {"K": 8, "V": 12}
    assert {s.name: tuple(d.size(sizes) for d in s.dims) for s in mixer.states} == {k: s[2:] for k, s in states.items()}
    for declaration in mixer.declarations:
        axes = 3 if declaration.kind == "input" else 1
        assert shapes[declaration.name][axes:] == tuple(d.size(sizes) for d in declaration.dims)
    arguments = [key for key in shapes if "_state_" not in key and key not in ("y", "dy") and not key.startswith("d_")]
    assert sorted(d.name for d in mixer.declarations) == sorted(arguments)


@pytest.mark.parametrize("name", ROWS)
def test_promised_ranges_hold_for_the_golden_vectors(name):
    mixer = parse_mixer(library.load(name))
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        for case in sorted({key.split("/")[0] for key in arrays.files}):
            for declaration in mixer.declarations:
                values = arrays[f"{case}/{declaration.name}"]
                assert values.min() in declaration.range and values.max() in declaration.range


def test_matrices_have_what_is_read_out_as_their_columns():
    for name in NAMES:
        for state in parse_mixer(library.load(name)).states:
            rows, cols = (str(d) for d in matrix_shape(state.dims))
            assert rows != "V" or cols == "1"
