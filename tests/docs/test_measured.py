"""How benchmarks on a GPU run, merge and show their results: none of it needs one."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_examples, gpu_runs, gpu_training
from benchmarks.gpu_runs import CHECK, TIMES, Children, Task, task_of
from benchmarks.kernel_profile import WARM
from docs import measured
from docs.generate import generated
from smir.bench.peers import GPU, PEERS
from smir.specs import library_names

CHECKED = {"spec": "x", "error": 1.0, "passed": True}
TIMED = {"task": TIMES, "spec": "x", "shape": "4x8x2x16", "forward_ms": 1.0,
         "both_ms": 3.0, "extra_MiB": 100.4}  # fmt: skip
TASKS = {CHECK: Task(gpu_training.check), WARM: Task(gpu_training.check, recorded=False),
         TIMES: Task(gpu_training.check, alone=True)}  # fmt: skip
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
    assert [task_of(r) for r in (CHECKED, TIMED)] == [CHECK, TIMES]
    assert task_of({"forward_ms": 1.0}) == TIMES and task_of({"crashed": "warm: it broke: badly"}) == WARM


def test_several_calls_fill_one_file(out: Path) -> None:
    crashed = {"spec": "x", "crashed": f"{TIMES}: out of memory"}
    for rows in ([CHECKED], [crashed], [TIMED, {**TIMED, "shape": "1x8x2x16"}], [{**TIMED, "spec": "y"}]):
        gpu_runs.record(out, "", rows, TASKS)
    kept = [CHECKED, TIMED, {**TIMED, "shape": "1x8x2x16"}, {**TIMED, "spec": "y"}]
    assert recorded(out) == kept
    gpu_runs.record(out, "", [{**TIMED, "both_ms": 9.0}], TASKS)
    assert recorded(out) == [CHECKED, {**TIMED, "spec": "y"}, {**TIMED, "both_ms": 9.0}]


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


def test_errors_and_times_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**CHECKED, "form": "step", "dtype": "float32", "case": "usual", "budget": 2.0, "repeats": True}
    monkeypatch.setattr(measured, "results", lambda name: ("", {"sizes": "small"}, [row, TIMED]))
    text = measured.gpu_errors("gpu_training")
    assert "| 1 of 1 |" in text and "1 comparisons, 0 outside" in text


def test_peers_take_what_the_specs_declare() -> None:
    import smir

    assert set(PEERS) <= set(library_names())
    for spec, peers in PEERS.items():
        declared = {d.name: torch.ones(1, 1, 1, 1) for d in smir.compile(spec).spec.declarations}
        for peer in (p for p in peers if p.device == GPU):
            assert peer.arguments(declared), (spec, peer.name)


def test_the_examples_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    row = gpu_examples.train("digits:scalar_decay", "cpu", steps=2)
    assert row["steps"] == 2 and row["ms a step"] > 0 and row["loss after"] != row["loss before"]
    assert len(gpu_examples.MODELS) == 10
    monkeypatch.setattr(gpu_examples, "LONGEST", 60)
    monkeypatch.setattr(gpu_examples, "GENERATED", 4)
    written = gpu_examples.train("generate:gated_delta_rule", "cpu", steps=2)
    monkeypatch.setattr(measured, "results", lambda name: ("", {"sizes": "small"}, [row, written]))
    assert "| `generate` | gated_delta_rule | 60 | " in measured.gpu_examples()
    assert "| `train_digits_lion` | scalar_decay | 2 | " in measured.gpu_examples()


def test_a_block_without_a_run_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    said = generated("gpu-examples")
    assert said == "No run is recorded: `python -m benchmarks.gpu_examples` makes one.\n"
