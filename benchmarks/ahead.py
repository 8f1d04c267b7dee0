"""Processes that compile together and measure alone, each started before its turn so that nothing waits for imports."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.gpu_runs import Rows, describe

COMPILE, MEASURE = "compile", "measure"
AHEAD = 3
PACKAGES = ("fla-core", "mlstm_kernels", "mamba_ssm", "flash-qla", "tilelang")


@dataclass(frozen=True)
class Job:
    """What one process does: `who` of `row`. Only some need compiling; those that take long begin early."""

    row: str
    who: str
    compiles: bool = True
    early: bool = False


@dataclass(frozen=True)
class Run:
    """Jobs, the file of their results, and until when (of `time.monotonic`) processes may begin.

    The module is run as `--child MODE ROW WHO THREADS`; it prints a JSON object for each row of results. A process that
    measures first waits for a line on its input.
    """

    module: str
    jobs: tuple[Job, ...]
    out: Path
    sizes: str
    end: float
    child_seconds: float
    processes: int
    threads: int

    def both(self, show: Callable[[Rows], None], what: str, compiles: bool = True) -> None:
        """Compiles everything, unless the caches are full, and measures it; says how many `what` took how long."""
        begin = time.monotonic()
        if compiles:
            self.compile_all()
            print(f"compiled in {time.monotonic() - begin:.0f} s", flush=True)
        self.measure_all(show)
        print(f"{len(self.jobs)} {what} in {time.monotonic() - begin:.0f} s", flush=True)

    def compile_all(self) -> None:
        """Fills the caches on disk, many jobs at once; what doesn't come to an end will compile when it is measured."""
        jobs = sorted((job for job in self.jobs if job.compiles), key=lambda job: job.early, reverse=True)
        with ThreadPoolExecutor(self.processes) as pool:
            for job, rows in pool.map(self._compile, jobs):
                self.record(rows or [{"row": job.row, "who": job.who, "task": COMPILE, "error": "not begun"}])

    def _compile(self, job: Job) -> tuple[Job, Rows]:
        begin = time.monotonic()
        seconds = min(self.child_seconds, self.end - begin)
        rows = _answer(self._start(job, COMPILE, self.threads), seconds) if seconds > 1 else []
        wall = time.monotonic() - begin
        return job, [{"row": job.row, "who": job.who, "task": COMPILE, **r, "wall_s": wall} for r in rows]

    def measure_all(self, show: Callable[[Rows], None]) -> None:
        """One job after the other, while the next ones import what they need."""
        waiting: list[tuple[Job, subprocess.Popen[str]]] = []
        left = list(self.jobs)
        while waiting or (left and time.monotonic() < self.end):
            while left and len(waiting) < AHEAD and time.monotonic() < self.end:
                waiting.append((left[0], self._start(left.pop(0), MEASURE, os.cpu_count() or 1)))
            job, process = waiting.pop(0)
            if time.monotonic() > self.end:
                process.kill()
                continue
            rows = _answer(process, min(self.child_seconds, self.end - time.monotonic()))
            rows = [{"row": job.row, "who": job.who, "task": MEASURE, **r} for r in rows]
            self.record(rows)
            show(rows)

    def _start(self, job: Job, mode: str, threads: int) -> "subprocess.Popen[str]":
        # what a peer's search finds is not kept: every run searches again
        quiet = {**os.environ, "FLA_CACHE_RESULTS": "0", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", self.module, "--child", mode, job.row, job.who, str(threads)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env=quiet)  # fmt: skip

    def record(self, rows: Rows) -> None:
        """Writes rows in place of those that the file has of the same row, implementation and task."""
        new = {(r["row"], r["who"], r["task"]) for r in rows}
        kept = [r for r in recorded(self.out) if (r["row"], r["who"], r["task"]) not in new]
        self.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": machine(self.sizes), "rows": [*kept, *rows]}, indent=1) + "\n"
        fresh = self.out.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.out)


def _answer(process: "subprocess.Popen[str]", seconds: float) -> Rows:
    """The rows that a process prints once it gets its line; where it fails, a last one says how."""
    try:
        text, trouble = process.communicate("go\n", timeout=max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        trouble = f"no answer in {seconds:.0f} s"
    for line in text.splitlines():
        if not line.startswith("{"):
            print(line, flush=True)
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    return [*rows, {"error": trouble.strip()[-600:]}] if process.returncode else rows


def recorded(out: Path) -> Rows:
    """The rows in a file of results; none, if there is no file."""
    return list(json.loads(out.read_text(encoding="utf-8"))["rows"]) if out.exists() else []


def without_results(jobs: tuple[Job, ...], out: Path) -> tuple[Job, ...]:
    """Those that were not measured yet, or in vain."""
    measured = [r for r in recorded(out) if r["task"] == MEASURE]
    failed = {(r["row"], r["who"]) for r in measured if "error" in r}
    done = {(r["row"], r["who"]) for r in measured} - failed
    return tuple(job for job in jobs if (job.row, job.who) not in done)


@cache
def machine(sizes: str) -> dict[str, str]:
    """Card, driver, versions and date."""
    asked = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True,
                           text=True, check=False)  # fmt: skip
    found = {"driver": asked.stdout.strip().partition("\n")[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**describe(sizes), **found}
