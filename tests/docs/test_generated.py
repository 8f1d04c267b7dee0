"""Every generated block of the documentation says what its generator says now; what the pages point at exists."""

import math
import re
from pathlib import Path

import pytest

from docs import generate, measured, tour

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page.name: page.read_text(encoding="utf-8") for page in generate.pages()}
STANDING = [(page, name) for page, text in PAGES.items() for name in generate.blocks_of(text)]
PAGE = "before\n<!-- generated: budgets -->\nold\n<!-- end -->\nafter\n"


@pytest.mark.parametrize(("page", "name"), STANDING)
def test_block_is_up_to_date(page: str, name: str) -> None:
    same = generate.blocks_of(PAGES[page])[name] == generate.generated(name)
    assert same, f"docs/{page}: the block {name} is stale; run {generate.COMMAND}"


def test_every_generator_is_used_once() -> None:
    assert sorted(name for _, name in STANDING) == sorted(generate.BLOCKS)


def test_a_stale_block_is_found_and_rewritten_and_nothing_else() -> None:
    assert generate.stale(PAGE) == ["budgets"]
    new = generate.renewed(PAGE)
    assert new.startswith("before\n<!-- generated: budgets -->\n|") and new.endswith("|\n<!-- end -->\nafter\n")
    assert generate.stale(new) == [] and generate.renewed(new) == new


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- generated: budgets -->\n", "no `<!-- end -->`"),
        (PAGE + PAGE, "twice"),
        (PAGE.replace("budgets", "nothing-such"), "no generator"),
    ],
)
def test_a_broken_page_is_refused(page: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate.renewed(page)


def test_check_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    assert generate.main(["--check"]) == 1
    assert generate.COMMAND in capsys.readouterr().out
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    named = re.findall(r"`((?:frontends|passes|backends|smir|docs|tests|benchmarks)/[\w/.]*)`", PAGES[page])
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_an_excerpt_of_a_line_that_is_gone_is_refused() -> None:
    assert tour.excerpt("a\nb\nc\n", "b", "c") == "b\n"
    with pytest.raises(ValueError, match="no line that begins with 'd'"):
        tour.excerpt("a\nb\nc\n", "d")


def gpu_row(**changes) -> dict:
    row = {"spec": "x", "form": "step", "dtype": "float32", "case": "usual", "result": "y", "error": 1e-6,
           "budget": 2e-6, "repeats": True, "passed": True}  # fmt: skip
    return {**row, **changes}


def test_tables_hide_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        gpu_row(),
        gpu_row(error=4e-6, passed=False, repeats=False),
        gpu_row(spec="y", error=math.nan, passed=False),
    ]
    rows.append({"spec": "x", "crashed": "check: a\nlast line"})
    monkeypatch.setattr(measured, "results", lambda name: ("", {"sizes": "small"}, rows))
    text = measured.gpu_errors()
    assert "| x | step | 4.0e-06 | 2.00 | no result |  | NO | 1 of 2, incomplete |" in text
    assert "| y | step | nan | nan |" in text
    assert "3 comparisons, 2 outside their budget" in text and "`last line`" in text
    assert "| scalar_decay | not run |" in text


def test_kernels_beyond_the_bounds_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"spec": "x", "form": "step", "pass": "forward", "kernel": "k", "shared bytes": 1, "registers": 2,
           "stack bytes": 3, "within limits": False, "failed": ""}  # fmt: skip
    rows = [
        row,
        {**row, "kernel": "j", "stack bytes": 9, "within limits": True},
        {**row, "pass": "backward", "kernel": "d_k", "within limits": True},
        {**row, "form": "chunked", "failed": "no"},
    ]
    monkeypatch.setattr(measured, "results", lambda name: ("t", {}, rows))
    text = measured.kernel_resources()
    assert "| x | step | `k` **1 / 2 / 3** | `d_k` 1 / 2 / 3 |" in text
    assert "| x | chunked | fails |  |" in text
    assert "3 kernels, 1 of them beyond the bounds (bold). Not compiled: x chunked." in text
