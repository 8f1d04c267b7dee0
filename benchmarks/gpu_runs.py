"""What the benchmarks on a GPU share: every spec in a process of its own, results written and merged as they come."""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import smir
from smir.ir.mixer import INPUT, Mixer
from smir.ir.sizes import TIME_NAME
from smir.ir.tile_program import CHUNKED
from smir.sampling import dimension_names, sample, sample_states
from smir.verify import ERASE_FACTOR, STEP_FACTOR

Rows = list[dict[str, Any]]
CHECK, TIMES = "check", "times"
DRAWN = 1024
# Choromanski et al. (2021), section 2: rows of W are normal vectors, and queries and keys are divided by K^(1/4). With
# a W of norm one all features are the same, and the queries' gradient is what is left of differences of rounded sums.
SCALES: Mapping[str, Callable[[Mapping[str, int]], Mapping[str, float]]] = {
    "performer": lambda n: {"q": n["K"] ** 0.25, "k": n["K"] ** 0.25, "W": (n["M"] * n["K"]) ** 0.5}
}


@dataclass(frozen=True)
class Task:
    """What a child process does for one spec: `run(spec)` gives its rows.

    Tasks with `alone` run one after the other, because nothing else may use the card while they measure. `variables`
    are set in the child's environment, and `recorded` says whether the rows are results.
    """

    run: Callable[[str], Iterator[dict[str, Any]]]
    alone: bool = False
    recorded: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


def fast_form(name: str) -> str:
    """The form of a spec whose time is measured: chunked, or where that isn't legal what a long call would take."""
    mixer = smir.compile(name)
    return CHUNKED if CHUNKED in mixer.forms else mixer.form_for(T=4096, backend="triton")


def task_of(row: Mapping[str, Any]) -> str:
    """The task that a row comes from."""
    if "crashed" in row:
        return str(row["crashed"]).partition(":")[0]
    return str(row.get("task", TIMES if "forward_ms" in row else CHECK))


def run(
    module: str,
    doc: str | None,
    tasks: Mapping[str, Task],
    summary: Callable[[Rows], None],
    sizes: str,
    known: Iterable[str] = smir.library_names(),
) -> None:
    """Runs a benchmark's tasks in order for the specs asked for; their rows replace older ones of the same task."""
    results = Path(__file__).parent / "results" / f"{module.rsplit('.', 1)[-1]}.json"
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", default="", help="with commas between them; default: all")
    parser.add_argument("--tasks", default="", help=f"of {', '.join(tasks)}, with commas; default: all")
    parser.add_argument("--out", type=Path, default=results, help="a file that is there is added to")
    parser.add_argument("--jobs", type=int, default=12, help="processes at once, of tasks that measure no time")
    parser.add_argument("--child-seconds", type=float, default=300, help="after which a process is ended")
    parser.add_argument("--seconds", type=float, default=3600, help="after which nothing new begins")
    parser.add_argument("--child", nargs=2, metavar=("TASK", "SPEC"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        task, name = asked.child
        for row in tasks[task].run(name):
            print(json.dumps(row), flush=True)
        return
    specs = chosen(parser, "--specs", asked.specs, tuple(known))
    children = Children(module, asked.child_seconds, time.monotonic() + asked.seconds, asked.jobs)
    found: Rows = []
    for name in chosen(parser, "--tasks", asked.tasks, tasks):
        for rows in children.run(name, tasks[name], specs):
            found += rows
            record(asked.out, sizes, rows, tasks)
    summary(found)


def chosen(parser: argparse.ArgumentParser, option: str, text: str, known: Iterable[str]) -> list[str]:
    """The names in a list with commas, all known ones for an empty list; ends the program for an unknown one."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in tuple(known):
            parser.error(f"{option}: there is no {name!r}; known are {', '.join(known)}")
    return names or list(known)


@dataclass(frozen=True)
class Children:
    """Processes for tasks of a benchmark: each is ended after `limit` seconds, none begins after `end`."""

    module: str
    limit: float
    end: float
    jobs: int

    def run(self, name: str, task: Task, specs: Iterable[str]) -> Iterator[Rows]:
        """The rows of each spec, as they come."""
        with ThreadPoolExecutor(1 if task.alone else self.jobs) as pool:
            for done in as_completed([pool.submit(self._child, name, task, spec) for spec in specs]):
                yield done.result()

    def _child(self, name: str, task: Task, spec: str) -> Rows:
        seconds = min(self.limit, self.end - time.monotonic())
        if seconds < 1:
            return [{"spec": spec, "crashed": f"{name}: not begun, the time was over"}]
        command = [sys.executable, "-m", self.module, "--child", name, spec]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False,
                                  env={**os.environ, **task.variables})  # fmt: skip
        except subprocess.TimeoutExpired as late:
            text = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
            return [*_rows(text), {"spec": spec, "crashed": f"{name}: no answer in {seconds:.0f} s"}]
        rows = _rows(done.stdout)
        if done.returncode:
            rows.append({"spec": spec, "crashed": f"{name}: " + done.stderr.strip()[-1500:]})
        return rows


def _rows(text: str) -> Rows:
    """The rows in a child's output; a last line that was cut off is none."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


def record(out: Path, sizes: str, rows: Rows, tasks: Mapping[str, Task]) -> None:
    """Writes rows to a file of results in place of those that it has of the same specs and tasks."""
    before = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.exists() else []
    new = {(r["spec"], task_of(r)) for r in rows}
    rows = [r for r in rows if "crashed" in r or tasks[task_of(r)].recorded]
    kept = [r for r in before if (r["spec"], task_of(r)) not in new]
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": describe(sizes), "rows": [*kept, *rows]}, indent=1) + "\n"
    fresh = out.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(out)


def float32_factor(mixer: Any) -> float:
    """How many times the error of the float32 step form a form may make: an erase solves a system."""
    operators = mixer.compilation.operators
    return ERASE_FACTOR if operators is not None and any(o.erases for o in operators.operators) else STEP_FACTOR


def check_summary(rows: Rows) -> None:
    """One line per spec: comparisons, those outside, the largest parts of the budgets, results that moved; then why."""
    print(f"{'spec':<27}{'rows':>6}{'fail':>5}{'float32':>9}{'bf16':>7}{'moved':>6}  of budget; two runs that differ")
    for spec in sorted({r["spec"] for r in rows}):
        own = [r for r in rows if r["spec"] == spec and "error" in r]
        float32, bfloat16 = (worst_share(r for r in own if r["dtype"] == d) for d in ("float32", "bfloat16"))
        print(f"{spec:<27}{len(own):>6}{sum(not r['passed'] for r in own):>5}{float32:>9.2f}{bfloat16:>7.2f}"
              f"{sum(not r['repeats'] for r in own):>6}")  # fmt: skip
    for r in rows:
        if "crashed" in r or "refused" in r:
            print(r["spec"], r.get("form", ""), r.get("dtype", ""), str(r.get("crashed") or r.get("refused"))[-500:])
    for r in [r for r in rows if "error" in r and not r["passed"]][:60]:
        print("FAIL", *(r[k] for k in ("spec", "form", "dtype", "case", "result")),
              f"{r['error']:.2e} > {r['budget']:.2e}",
              f"(unavoidable {r['unavoidable']:.2e})" if "unavoidable" in r else "")  # fmt: skip


def worst_share(rows: Iterable[Mapping[str, Any]]) -> float:
    """The largest ratio of an error to its budget; NaN, where one is, and where there are none."""
    shares = [r["error"] / r["budget"] for r in rows]
    return max(shares, key=lambda x: math.inf if math.isnan(x) else x, default=math.nan)


def describe(sizes: str) -> dict[str, str]:
    """Card, versions, date and the sizes of the checks."""
    import platform

    import torch
    import triton

    return {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__,
            "python": platform.python_version(), "date": time.strftime("%Y-%m-%d"),
            "sizes": sizes}  # fmt: skip


def draw(
    spec: Mixer, B: int, T: int, H: int, sizes: Mapping[str, int], seed: int, extreme: bool = False
) -> dict[str, Any]:
    """`sample`'s random arguments, as large as the mixer's own paper has them where that matters."""
    arrays = sample(spec, B, T, H, sizes, seed, extreme=extreme)
    scales = SCALES[spec.name](sizes) if spec.name in SCALES else {}
    return {name: x * scales.get(name, 1.0) for name, x in arrays.items()}


def starts(mixer: Any, B: int, H: int, sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Random initial states of a mixer that a call can go on with; none of one that looks ahead."""
    return sample_states(mixer.spec, B, H, sizes, seed) if mixer.compilation.lookahead is None else {}


def large_arguments(spec: Mixer, shape: tuple[int, int, int], size: Callable[[str], int]) -> dict[str, Any]:
    """Seeded float32 arguments on the GPU, inside the promised ranges: `(B, T, H)` and `size(dimension)`.

    A thousand tokens of one head are drawn; the rest repeats them up to a tenth, so that no two heads are the same.
    """
    import torch

    batch, tokens, heads = shape
    torch.manual_seed(0)
    drawn = draw(spec, 1, DRAWN, 1, {name: size(name) for name in dimension_names(spec)}, seed=3)
    found = {}
    for d in spec.declarations:
        x = torch.from_numpy(drawn[d.name]).float().cuda()
        if d.kind == INPUT:
            x = x.repeat(batch, tokens // DRAWN, heads, *[1] * (x.ndim - 3))
            x = x * (0.9 + 0.1 * torch.rand_like(x))
        else:
            x = x.repeat(heads, *(tokens // DRAWN if str(dim) == TIME_NAME else 1 for dim in d.dims))
        found[d.name] = x
    return found
