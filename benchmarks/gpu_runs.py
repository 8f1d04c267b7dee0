"""What the benchmarks on a GPU share: every spec in a process of its own, checks together, times one by one."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import smir

Rows = list[dict[str, Any]]
Task = Callable[[str], Iterator[dict[str, Any]]]


def run(module: str, doc: str | None, tasks: Mapping[str, Task], summary: Callable[[Rows], None], sizes: str) -> None:
    """Runs `check`, `warm` and `times` of a benchmark's tasks for the specs asked for, and records the rows."""
    results = Path(__file__).parent / "results" / f"{module.rsplit('.', 1)[-1]}.json"
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--specs", default="")
    parser.add_argument("--out", type=Path, default=results)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--no-times", action="store_true")
    parser.add_argument("--no-checks", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("TASK", "SPEC"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        task, name = asked.child
        for row in tasks[task](name):
            print(json.dumps(row), flush=True)
        return
    specs = [s for s in asked.specs.split(",") if s] or list(smir.library_names())
    rows = [] if asked.no_checks else _together(module, "check", specs, asked.jobs)
    _record(asked.out, sizes, rows)
    if not asked.no_times:  # compiled together, measured one after the other: nothing else may run on the card
        _together(module, "warm", specs, asked.jobs)
        rows += [row for s in specs for row in run_child(module, "times", s)]
        _record(asked.out, sizes, rows)
    summary(rows)


def _together(module: str, task: str, specs: list[str], jobs: int) -> Rows:
    with ThreadPoolExecutor(jobs) as pool:
        return [row for found in pool.map(lambda s: run_child(module, task, s), specs) for row in found]


def _record(out: Path, sizes: str, rows: Rows) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": describe(sizes), "rows": rows}, indent=1) + "\n", encoding="utf-8")


def run_child(module: str, task: str, name: str) -> list[dict[str, Any]]:
    """The rows that `module --child task name` prints, in a process of its own."""
    command = [sys.executable, "-m", module, "--child", task, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    except subprocess.TimeoutExpired:
        return [{"spec": name, "crashed": f"{task}: no answer in 400 s"}]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        rows.append({"spec": name, "crashed": f"{task}: " + done.stderr.strip()[-1500:]})
    return rows


def describe(sizes: str) -> dict[str, str]:
    """Card, versions, date and the sizes of the checks."""
    import platform
    import time

    import torch
    import triton

    return {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__,
            "python": platform.python_version(), "date": time.strftime("%Y-%m-%d"),
            "sizes": sizes}  # fmt: skip
