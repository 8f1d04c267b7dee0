"""The table of ours beside other people's kernels: what is measured, run again, and shown. None of it needs a GPU."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import smir
from benchmarks import ahead, gpu_scaling
from benchmarks.ahead import COMPILE, MEASURE, Job, Run, without_results
from benchmarks.gpu_ratios import CEILINGS, OURS, jobs_of
from benchmarks.peer_search import Hastened
from benchmarks.ratio_rows import ROWS, TOKENS
from docs import measured, ratios
from smir.bench.floors import BOTH, FORWARD
from smir.sampling import dimension_names

LEAST = {"bytes": 1e9, "flops": 1e9}
SPEED = {"row": CEILINGS, "who": CEILINGS, "task": MEASURE, "bytes_per_second": 1e12, "flops_per_second": 1e15}
CHILD = """
import json, sys
_, mode, row, who, threads = sys.argv[1:]
print("a word for people")
if mode == "measure":
    sys.stdin.readline()
if who == "wrong":
    sys.exit("no such thing")
print(json.dumps({"row": row, "who": who, "task": mode, "value": 1}))
"""


def timed(row: str, who: str, ms: float, shape: tuple[int, int] = TOKENS[0], **more: Any) -> dict[str, Any]:
    return {"row": row, "who": who, "task": MEASURE, "batch": shape[0], "tokens": shape[1], "forward_ms": ms,
            "both_ms": 3 * ms, "forward_MiB": 10.0, "both_MiB": 40.0, "first_s": 2.0, **more}  # fmt: skip


def ours(row: str, ms: float, **more: Any) -> dict[str, Any]:
    return timed(row, OURS, ms, **{FORWARD: LEAST, BOTH: LEAST, **more})


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(measured, "RESULTS", tmp_path)

    def show(name: str, rows: list[dict[str, Any]], make: Any) -> str:
        text = json.dumps({"machine": {"card": "a card", "sizes": ""}, "rows": rows})
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
        return str(make())

    return show


def test_ratios_stand_beside_what_is_wanted(shown: Any) -> None:
    peer = "fla.chunk_gla"
    broken = {"row": "kda", "who": "fla.chunk_kda", "task": MEASURE, "error": "Traceback\nRuntimeError: no"}
    text = shown("gpu_ratios", [SPEED, ours("gla", 2.0), timed("gla", peer, 3.0), ours("mamba1", 4.0), broken],
                 ratios.gpu_ratios)  # fmt: skip
    gla = "| gla | 4 x 4096 | `fla.chunk_gla` | 2.00 / 6.00 | 3.00 / 9.00 | 1.50 / 1.50 | 1.2 / 1.3 | 0.50 / 0.17 |"
    assert gla + " 10 / 40 | 10 / 40 |" in text
    mamba1 = "| mamba1 (D = 2048, N = 16) | 4 x 4096 |  | 4.00 / 12.00 |  |  | 0.33 / 0.25 of the limit | 0.25 / 0.08 |"
    assert mamba1 in text
    assert "- kda, fla.chunk_kda: `RuntimeError: no`\n" in text


def test_nothing_is_shown_before_a_run(shown: Any, tmp_path: Path) -> None:
    for block in (ratios.gpu_ratios, ratios.gpu_scaling_sizes, ratios.gpu_first_calls):
        with pytest.raises(measured.NotRecordedError, match="No run"):
            block()
    assert "no ceilings" in shown("gpu_ratios", [ours("gla", 2.0)], ratios.gpu_ratios)


def test_first_calls_and_scaling(shown: Any) -> None:
    compiled = {"row": "gla", "who": OURS, "task": COMPILE, "wall_s": 9.0, "configurations": 7}
    text = shown("gpu_ratios", [SPEED, compiled, ours("gla", 2.0)], ratios.gpu_first_calls)
    assert "| gla | smir | 7 | 9 | 2.0 |" in text
    point = {"row": "gla", "task": MEASURE, "B": 1, "T": 4096, "H": 8, "K": 128, "forward_ms": 1.0, "both_ms": 2.0}
    rows = [{**point, "who": "T"}, {**point, "who": "B H"}, {**point, "who": "B H", "B": 2, "both_ms": 4.0}]
    assert "| gla | 1.00 / 2.00 |\n" in shown("gpu_scaling", rows, ratios.gpu_scaling_lengths)
    text = shown("gpu_scaling", rows, ratios.gpu_scaling_heads)
    assert "| spec | B H = 8 | B H = 16 |" in text and "| gla | 1.00 / 2.00 | 1.00 / 4.00 |\n" in text


def test_rows_are_calls_that_the_specs_take() -> None:
    for name, row in ROWS.items():
        spec = smir.compile(row.what).spec
        shape = row.shape(spec, *TOKENS[0], dimension_names(spec))
        assert spec.name == row.spec and set(row.heads) <= set(shape.heads), name
        assert row.rival == "" or row.rival in row.peers, name
        assert row.beside_floor or row.peers, name


def test_a_run_goes_on_where_another_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "ratio_child.py").write_text(CHILD, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(ahead, "machine", lambda sizes: {"sizes": sizes})
    jobs = tuple(Job("a", who, compiles=who != "third") for who in ("first", "wrong", "third"))
    run = Run("ratio_child", jobs, tmp_path / "out.json", "", time.monotonic() + 60, 30, 2, 1)
    run.compile_all()
    run.measure_all(lambda rows: None)
    rows = ahead.recorded(run.out)
    assert [(r["who"], r["task"]) for r in rows if "value" in r] == [
        ("first", COMPILE), ("first", MEASURE), ("third", MEASURE)]  # fmt: skip
    assert [r["error"] for r in rows if r["who"] == "wrong"] == ["no such thing"] * 2
    assert without_results(jobs, run.out) == (jobs[1],)
    assert "a word for people" in capsys.readouterr().out


def test_equal_kernels_are_compiled_once() -> None:
    jobs = {(j.row, j.who): j for j in jobs_of(["gla", "hgrn2"], peers=True)}
    assert jobs["gla", "fla.chunk_gla"].compiles and not jobs["hgrn2", "fla.chunk_gla"].compiles
    assert [j.who for j in jobs_of(["gla"], peers=False)] == [CEILINGS, OURS]


def test_sweeps_change_one_size() -> None:
    tokens = {batch * length for batch, length, _, _ in gpu_scaling.SWEEPS["T"]}
    assert tokens == {2**18} and {p[1] for p in gpu_scaling.SWEEPS["T"]} >= {2**10, 2**18}
    assert [b * h for b, _, h, _ in gpu_scaling.SWEEPS["B H"]] == [8, 16, 32, 64, 128, 256]


def test_a_search_that_only_compiles_takes_what_compiles() -> None:
    good, bad = (SimpleNamespace(all_kwargs=lambda n=n: {"n": n}) for n in (1, 0))
    kernel = SimpleNamespace(_init_handles=lambda: None)

    def run(*args: Any, n: int, warmup: bool) -> Any:
        if not n:
            raise ValueError("does not compile")
        return kernel

    tuner = SimpleNamespace(arg_names=["x"], keys=["x"], configs=[bad, good], cache={}, fn=SimpleNamespace(run=run),
                            prune_configs=lambda kwargs: [bad, good])  # fmt: skip
    hastened = Hastened(2, search=False)
    hastened._ready(tuner, (3,), (3,), {})
    assert tuner.cache == {(3,): good} and hastened.compiled == 2
