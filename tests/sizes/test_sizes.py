"""Dimensions from 1 on, of any ratio, and sequences from one token on, against the oracle in float64."""

from collections.abc import Mapping

import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.compilation import DIRECT
from smir.ir.tile_program import OUTPUT
from smir.sampling import sample, sample_states
from smir.verify import run_form
from tests.sizes.cases import CHUNK, CLASSES, error, mixer, sizes_of, wide

BUDGET = 1e-9
SMALL = (1, 3, 17)
LENGTHS = (1, 2, CHUNK - 1, CHUNK, CHUNK + 1)
# Every size and every length, no two cases with the same ratio.
SOME = [((1, 3), 1), ((3, 17), 2), ((17, 1), CHUNK - 1), ((1, 17), CHUNK), ((17, 3), CHUNK + 1)]
ALL = [((K, V), T) for K in SMALL for V in SMALL for T in (*LENGTHS, 3 * CHUNK + 1)]


def check(name: str, sizes: Mapping[str, int], T: int) -> None:
    """Output and final states of all forms, and of what a call takes by itself."""
    done, spec = mixer(name).compilation, mixer(name).spec
    arrays = sample(spec, 2, T, 2, sizes, seed=T)
    states = sample_states(spec, 2, 2, sizes, seed=1) if done.lookahead is None else {}
    y, final = run_mixer(spec, arrays, states)
    for form in [form for form in mixer(name).forms if form != DIRECT]:
        found = run_form(done, form, arrays, states, CHUNK)
        for result, truth in {OUTPUT: y, **final}.items():
            assert error(found[result], truth) <= BUDGET, (form, result, sizes, T)
    assert error(mixer(name)(**arrays, state=states), y) <= BUDGET, (sizes, T)


@pytest.mark.parametrize("name", smir.library_names())
def test_small_dimensions_and_lengths_around_a_chunk(name: str) -> None:
    for pair, T in SOME:
        check(name, sizes_of(mixer(name).spec, *pair), T)


@pytest.mark.parametrize("pair", [(128, 512), (512, 128)])
@pytest.mark.parametrize("name", CLASSES)
def test_wide_dimensions(name: str, pair: tuple[int, int]) -> None:
    check(name, wide(mixer(name).spec, *pair), CHUNK + 1)


@pytest.mark.full
@pytest.mark.parametrize("name", smir.library_names())
def test_all_small_dimensions_with_all_lengths(name: str) -> None:
    for pair, T in ALL:
        check(name, sizes_of(mixer(name).spec, *pair), T)


@pytest.mark.full
@pytest.mark.parametrize("name", smir.library_names())
def test_wide_dimensions_of_the_library(name: str) -> None:
    for pair in ((128, 1), (3, 512), (512, 512)):
        check(name, wide(mixer(name).spec, *pair), 2 * CHUNK + 1)
