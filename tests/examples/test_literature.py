"""The mixers of the literature in examples/mixers: short specs, legal forms as the docs say, correct in all of them."""

import numpy as np
import pytest

import smir
from docs.catalogue import BEYOND, LITERATURE, NEEDED, literature
from smir.compilation import DIRECT
from smir.ir.mixer import INPUT
from smir.ir.tile_program import CHUNKED, QUADRATIC, SCAN, STEP
from smir.specs import library_names
from smir.verify import Row
from tests.examples.literature_formulas import FORMULAS
from tests.golden.vectors import relative_rms

PATHS = {path.stem: path for path in sorted(LITERATURE.glob("*.smir"))}
NAMES = list(PATHS)
# A decay that is given as a factor, and is exactly zero, has no gradient in chunks (docs/verification.md).
ZERO_FACTORS = {"negative_eigenvalues": "d_a"}
AS_WRITTEN = ("stick_breaking", "wall_attention")
CLOSE = {"error_free": 1e-5}  # of an approximation with small steps, and a small number beside the squared norm
LINES = 12  # lines after the header


def test_the_tables_name_specs_that_exist() -> None:
    assert set(NEEDED) | set(BEYOND) <= set(NAMES) and not set(NEEDED) & set(BEYOND)
    assert not set(NAMES) & set(library_names())


@pytest.mark.parametrize("name", NAMES)
def test_specs_are_short_and_say_where_they_come_from(name: str) -> None:
    lines = PATHS[name].read_text(encoding="utf-8").splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert lines[: len(header)] == header and any(line.startswith("#   ") for line in header)
    assert lines[len(header)] == f"mixer {name}" and len(lines) - len(header) <= LINES
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_forms_are_those_that_the_docs_claim(name: str) -> None:
    """What is out of reach has its step equation at most; all others a form that takes many tokens at once."""
    forms = set(smir.compile(PATHS[name]).forms)
    assert (forms <= {STEP, DIRECT}) if name in BEYOND else forms & {CHUNKED, QUADRATIC, SCAN}


def excused(name: str, row: Row) -> bool:
    return row.case == "extreme" and row.result == ZERO_FACTORS.get(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in AS_WRITTEN])
def test_every_form_agrees_with_the_oracle_with_gradients(name: str) -> None:
    mixer = smir.compile(PATHS[name])
    report = mixer.verify(T=37, gradients=True)
    assert {row.form for row in report.rows} == set(mixer.forms)
    assert not [row for row in report.rows if not row.passed and not excused(name, row)]


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_what_has_no_program_runs_as_written(name: str) -> None:
    mixer = smir.compile(PATHS[name])
    assert mixer.forms == (DIRECT,) and np.isfinite(mixer(**smir.sample(mixer.spec))).all()


@pytest.mark.parametrize("name", FORMULAS)
def test_the_spec_is_its_formula(name: str) -> None:
    """As a sum over all earlier positions, or by another way that knows no states."""
    mixer = smir.compile(PATHS[name])
    arrays = smir.sample(mixer.spec, B=1, T=13, H=1, seed=5)
    bare = {d.name: arrays[d.name][0, :, 0] if d.kind == INPUT else arrays[d.name][0] for d in mixer.spec.declarations}
    assert relative_rms(mixer(**arrays)[0, :, 0], FORMULAS[name](bare)) <= CLOSE.get(name, 1e-10)


def test_papers_are_recent() -> None:
    """At least a dozen are younger than the library's classes."""
    years = [int(year) for e in literature() for year in ("2025", "2026") if f"({year})" in e.about]
    assert len(years) >= 12
