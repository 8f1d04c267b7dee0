"""How benchmarks on a GPU run, merge and show their results: none of it needs one."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_examples, gpu_runs, gpu_training
from benchmarks.gpu_runs import CHECK, TIMES, Children, Task, task_of
from benchmarks.gpu_training import PEER, TASKS, WARM
from benchmarks.peers import PEERS
from docs import measured
from smir.specs import library_names

CHECKED = {"spec": "x", "error": 1.0, "passed": True}
TIMED = {"task": TIMES, "spec": "x", "shape": "4x8x2x16", "forward_ms": 1.0,
         "both_ms": 3.0, "extra_MiB": 100.4}  # fmt: skip
BESIDE = {
    "task": PEER,
    "spec": "x",
    "shape": "4x8x2x16",
    "forward_ms": 2.0,
    "both_ms": 2.0,
    "extra_MiB": 50.0,
    "first_s": 7.0,
    "peer": "fla.ops.chunk_x",
}
CHILD = """
import json, sys, time
task, spec = sys.argv[2:]
print(json.dumps({"spec": spec, "task": task}), flush=True)
if spec == "slow":
    print('{"spec": "cut of', end="", flush=True)
    time.sleep(60)
sys.exit("no such thing" if spec == "wrong" else 0)
"""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gpu_runs, "describe", lambda sizes: {"sizes": sizes})
    return tmp_path / "results" / "run.json"


def recorded(out: Path) -> list[dict[str, Any]]:
    return json.loads(out.read_text(encoding="utf-8"))["rows"]


def test_rows_know_their_task() -> None:
    assert [task_of(r) for r in (CHECKED, TIMED, BESIDE)] == [CHECK, TIMES, PEER]
    assert task_of({"forward_ms": 1.0}) == TIMES and task_of({"crashed": "peer: it broke: badly"}) == PEER


def test_several_calls_fill_one_file(out: Path) -> None:
    crashed = {"spec": "x", "crashed": f"{TIMES}: out of memory"}
    for rows in ([CHECKED], [crashed], [TIMED, {**TIMED, "shape": "1x8x2x16"}], [{**TIMED, "spec": "y"}], [BESIDE]):
        gpu_runs.record(out, "", rows, TASKS)
    kept = [CHECKED, TIMED, {**TIMED, "shape": "1x8x2x16"}, {**TIMED, "spec": "y"}, BESIDE]
    assert recorded(out) == kept
    gpu_runs.record(out, "", [{**TIMED, "both_ms": 9.0}], TASKS)
    assert recorded(out) == [CHECKED, {**TIMED, "spec": "y"}, BESIDE, {**TIMED, "both_ms": 9.0}]


def test_what_only_warms_up_is_not_recorded_unless_it_fails(out: Path) -> None:
    gpu_runs.record(out, "", [{"spec": "x", "crashed": f"{WARM}: why"}], TASKS)
    assert [task_of(r) for r in recorded(out)] == [WARM]
    gpu_runs.record(out, "", [{"task": WARM, "spec": "x"}], TASKS)
    assert recorded(out) == []


def test_a_process_that_hangs_or_breaks_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmark_child.py").write_text(CHILD, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    children = Children("benchmark_child", 2.0, time.monotonic() + 60, jobs=3)
    found = {r[0]["spec"]: r for r in children.run("check", TASKS[CHECK], ["slow", "wrong", "fine"])}
    assert found["fine"] == [{"spec": "fine", "task": "check"}]
    assert found["wrong"][1]["crashed"] == "check: no such thing"
    assert found["slow"][1]["crashed"] == "check: no answer in 2 s" and len(found["slow"]) == 2
    over = Children("benchmark_child", 2.0, time.monotonic(), jobs=1)
    assert list(over.run("check", TASKS[CHECK], ["fine"])) == [
        [{"spec": "fine", "crashed": "check: not begun, the time was over"}]]  # fmt: skip


@pytest.mark.parametrize(("option", "value"), [("--specs", "gla,gle"), ("--tasks", "tims")])
def test_unknown_names_are_refused(option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["x", option, value])
    with pytest.raises(SystemExit):
        gpu_runs.run(gpu_training.MODULE, "", {CHECK: Task(gpu_training.check)}, print, "")
    assert "there is no" in capsys.readouterr().err


def table_of(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(measured, "results", lambda name: ("", {"card": "a card"}, rows))
    return measured.gpu_training_times()


def test_ours_stands_beside_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {"task": PEER, "spec": "z", "shape": "1x1", "peer": "fla.z", "peer_error": "RuntimeError: no"}
    text = table_of([CHECKED, TIMED, BESIDE, {**TIMED, "spec": "y"}, refused, {"spec": "v", "crashed": "peer: oh"}],
                    monkeypatch)  # fmt: skip
    assert "| x | `chunk_x` | 4 x 8 x 2 x 16 | 1.00 / 3.00 | 2.00 / 2.00 | 0.50 / 1.50 | 100 | 50 | 7.0 |" in text
    assert "| y |  | 4 x 8 x 2 x 16 | 1.00 / 3.00 |  |  | 100 |  |  |" in text
    assert "- z, 1x1: `fla.z` refused, RuntimeError: no\n" in text and "- v: the peer ended early, `oh`\n" in text
    assert "no times" in table_of([CHECKED, BESIDE], monkeypatch)


def test_errors_and_times_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**CHECKED, "form": "step", "dtype": "float32", "case": "usual", "budget": 2.0, "repeats": True}
    monkeypatch.setattr(measured, "results", lambda name: ("", {"sizes": "small"}, [row, TIMED, BESIDE]))
    text = measured.gpu_errors("gpu_training")
    assert "| 1 of 1 |" in text and "1 comparisons, 0 outside" in text


def test_peers_take_what_the_specs_declare() -> None:
    import smir

    assert set(PEERS) <= set(library_names())
    for spec, peer in PEERS.items():
        declared = {d.name: 1.0 for d in smir.compile(spec).spec.declarations}
        assert set(peer.arguments(declared).values()) <= {1.0, -1.0} and peer.name.startswith("fla.ops.")


def test_the_examples_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    row = gpu_examples.train("digits:scalar_decay", "cpu", steps=2)
    assert row["steps"] == 2 and row["ms a step"] > 0 and row["loss after"] != row["loss before"]
    assert len(gpu_examples.MODELS) == 10
    monkeypatch.setattr(gpu_examples, "LONGEST", 60)
    monkeypatch.setattr(gpu_examples, "GENERATED", 4)
    written = gpu_examples.train("generate:gated_delta_rule", "cpu", steps=2)
    monkeypatch.setattr(measured, "results", lambda name: ("", {"sizes": "small"}, [row, written]))
    assert "| `generate` | gated_delta_rule | 60 | " in measured.gpu_examples()
    monkeypatch.setattr(measured, "RESULTS", Path(__file__).parent)
    assert "No run" in measured.gpu_examples()
    monkeypatch.setattr(Path, "exists", lambda path: True)
    assert "| `train_digits_lion` | scalar_decay | 2 | " in measured.gpu_examples()
