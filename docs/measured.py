"""The generated blocks that hold measurements: tables of what the benchmarks wrote to benchmarks/results."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import gpu_forward as gpu
from benchmarks.gpu_runs import CHECK, task_of
from smir import verify
from smir.backends.triton_gpu.ahead_of_time import SHARED_LIMIT, STACK_LIMIT
from smir.compilation import FORMS
from smir.specs import library_names

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Rows = list[dict[str, Any]]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose first `left` columns are aligned to the left, the others to the right."""
    rule = ["---"] * left + ["--:"] * (len(headings) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows)) + "\n"


class NotRecordedError(Exception):
    """There is no file of results; the message is the sentence that stands in the docs instead."""


def results(name: str) -> tuple[str, dict[str, str], Rows]:
    """Title, machine and rows of one benchmark. Raises NotRecordedError with the command that makes them."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise NotRecordedError(f"No run is recorded: `python -m benchmarks.{name}` makes one.")
    found = json.loads(path.read_text(encoding="utf-8"))
    return found.get("title", ""), found["machine"], found["rows"]


def caption(name: str, title: str, machine: dict[str, str]) -> str:
    """What was measured, on what, when, and how to do it again."""
    about = "; ".join(f"{what} {value}" for what, value in machine.items() if what not in ("sizes", "date"))
    when = machine.get("date", "a day that was not recorded")
    head = f"{title[0].upper()}{title[1:]}." if title else f"{machine['sizes']}."
    return f"{head} Measured on {when}: {about}. Again: `python -m benchmarks.{name}`.\n\n"


# ---- what is promised -------------------------------------------------------------------------------------------


def budgets() -> str:
    """The error budgets with the constants that the checks use."""
    return table(
        ("arithmetic", "RMS error of a result, relative to the RMS of the oracle's"),
        [
            ("float64", f"at most {verify.FLOAT64_BUDGET:g}"),
            ("float32", f"at most the larger of {verify.STEP_FACTOR:g} times that of the step form in float32 "
                        f"({verify.ERASE_FACTOR:g} times when the mixer erases) and {verify.FLOAT32_BUDGET:g}"),
            ("bfloat16", f"RMS(kernel(r(x)) - o(x)) at most {gpu.BFLOAT_FACTOR:g} RMS(r(o(r(x))) - o(x))"),
        ],
        left=2,
    )  # fmt: skip


def golden() -> str:
    """How many vectors there are."""
    folder = ROOT / "tests" / "golden"
    files = sorted(p.stem for p in folder.glob("*.npz"))
    resets = sorted(p.stem for p in (folder / "resets").glob("*.npz"))
    library = set(library_names())
    return (f"{len(files)} mixers have vectors, {len(library & set(files))} of the {len(library)} library specs among "
            f"them; {len(resets)} have vectors with exact resets.\n")  # fmt: skip


def target_limits() -> str:
    """The bounds on what a kernel may take."""
    return table(("target", "shared bytes", "stack bytes"),
                 [(f"`{t}`", str(shared), str(STACK_LIMIT)) for t, shared in SHARED_LIMIT.items()])  # fmt: skip


# ---- on a GPU ---------------------------------------------------------------------------------------------------

SIZED = ("float32", "float16", "bfloat16")


def gpu_gradients() -> str:
    """The same for gradients."""
    return gpu_errors("gpu_training")


def gpu_golden() -> str:
    """The same for outputs, final states and gradients of the golden vectors."""
    rows = results("gpu_golden")[2]
    beyond = "".join(
        f"- {r['spec']}, {r['form']}, {r['dtype']}, case `{r['case']}`, `{r['result']}`: {r['error']:.1e} of "
        f"{r['budget']:.1e}; exact results for arguments that differ in the last bit: {r['unavoidable']:.1e}\n"
        for r in rows if task_of(r) == CHECK and not r.get("passed", True)
    )  # fmt: skip
    return gpu_errors("gpu_golden", sorted({r["spec"] for r in rows})) + beyond


def gpu_long() -> str:
    """The same for outputs and gradients at the shapes whose times are given, of the specs that were run."""
    return gpu_errors("gpu_long", sorted({r["spec"] for r in results("gpu_long")[2]}))


def gpu_errors(run: str = "gpu_forward", only: Sequence[str] | None = None) -> str:
    """One row per spec: worst errors, how much of the budget they use, and whether two runs agree in every bit."""
    _, machine, everything = results(run)
    rows = [r for r in everything if task_of(r) == CHECK]
    headings = ("spec", "forms", "float32 error", "of budget", "bf16 error", "of budget", "same bits twice", "passed")
    specs = only or sorted({*library_names(), *(r["spec"] for r in rows)})
    body = [_gpu_row(spec, [r for r in rows if r["spec"] == spec]) for spec in specs]
    checks = [r for r in rows if "error" in r]
    failed = sum(not r["passed"] for r in checks)
    closing = f"\n{len(checks)} comparisons, {failed} outside their budget.\n"
    return caption(run, "", machine) + table(headings, body, left=2) + closing + _problems(rows)


def _problems(rows: Rows) -> str:
    """A line for each process that ended early, and for each call that was refused."""
    return "".join(f"- {_problem(r)}\n" for r in rows if "crashed" in r or "refused" in r)


def _gpu_row(spec: str, rows: Rows) -> tuple[str, ...]:
    checks = [r for r in rows if "error" in r]
    if not checks:
        return (spec, "no result" if rows else "not run", *[""] * 6)
    cells = [spec, ", ".join(f for f in FORMS if any(r["form"] == f for r in checks))]
    for dtype in gpu.DTYPES:
        own = [r for r in checks if r["dtype"] == dtype]
        worst, share = _worst(r["error"] for r in own), _worst(r["error"] / r["budget"] for r in own)
        cells += [f"{worst:.1e}", f"{share:.2f}"] if own else ["no result", ""]
    passed = f"{sum(r['passed'] for r in checks)} of {len(checks)}"
    cut = ", incomplete" if len(checks) < len(rows) else ""
    return (*cells, "yes" if all(r["repeats"] for r in checks) else "NO", passed + cut)


def _worst(values: Iterable[float]) -> float:
    """The largest; NaN is worse than any number."""
    return max(values, key=lambda x: math.inf if math.isnan(x) else x, default=math.nan)


def _problem(row: dict[str, Any]) -> str:
    what = " ".join(row[k] for k in ("form", "dtype", "case") if k in row)
    if "refused" in row:
        return f"{row['spec']} {what}: refused, {row['refused']}"
    task, _, text = row["crashed"].partition(": ")
    return f"{row['spec']}: the {task} ended early, `{text.strip().splitlines()[-1]}`"


def gpu_packed() -> str:
    """One row per spec: packed sequences against a loop over them, and what packing costs."""
    _, machine, rows = results("gpu_packed")
    headings = ("spec", "forms", "same bits", "of budget, float32", "of budget, bf16", "never waits", "passed",
                "batch ms", "packed ms", "unequal ms")  # fmt: skip
    specs = sorted({r["spec"] for r in rows})
    body = [_packed_row(spec, [r for r in rows if r["spec"] == spec]) for spec in specs]
    return caption("gpu_packed", "", machine) + table(headings, body, left=2) + _problems(rows)


def _packed_row(spec: str, rows: Rows) -> tuple[str, ...]:
    checks, waits = ([r for r in rows if r.get("case") == case] for case in ("loop", "no wait"))
    share = [_worst(r["error"] / r["budget"] for r in checks if r["dtype"] == d) for d in gpu.DTYPES]
    way = {r["way"]: f"{r['forward_ms']:.3f} / {r['both_ms']:.2f}" for r in rows if "way" in r}
    return (
        spec,
        ", ".join(dict.fromkeys(r["form"] for r in checks)),
        f"{sum(r['equal'] for r in checks)} of {len(checks)}",
        *(f"{s:.2f}" for s in share),
        "yes" if all(r["passed"] for r in waits) else "NO",
        f"{sum(r['passed'] for r in checks)} of {len(checks)}",
        *(way.get(name, "") for name in ("batch", "equal", "unequal")),
    )


def gpu_equivalences() -> str:
    """One row per spec: segments and steps against float64, and what has the same bits."""
    _, machine, rows = results("gpu_equivalences")
    specs = sorted({r["spec"] for r in rows if "kernels" in r or r.get("result") == "segments"})
    body = [_equivalence_row(spec, [r for r in rows if r["spec"] == spec and "error" in r]) for spec in specs]
    headings = ("spec", "of budget, float32", "of budget, bf16", "same bits", "kernels a step")
    refused = [r for r in rows if r.get("case") == "refused"]
    note = f"\n{sum(r['passed'] for r in refused)} of {len(refused)} specs that look ahead refuse.\n"
    return caption("gpu_equivalences", "", machine) + table(headings, body) + note + _problems(rows)


def _equivalence_row(spec: str, rows: Rows) -> tuple[str, ...]:
    kernels = {r["kernels"] for r in rows if "kernels" in r}
    near = [r for r in rows if r["budget"] < 0.5]
    bits = [r for r in rows if r["budget"] == 0.5]
    share = [_worst(r["error"] / r["budget"] for r in near if r["dtype"] == d) for d in gpu.DTYPES]
    same = f"{sum(r['passed'] for r in bits)} of {len(bits)}"
    return spec, *(f"{s:.2f}" for s in share), same, ", ".join(map(str, sorted(kernels)))


def gpu_decode() -> str:
    """One row per spec and batch: a step from a graph and as a plain call, beside the floor and a peer."""
    _, machine, rows = results("gpu_decode")
    timed = sorted((r for r in rows if "graph_us" in r), key=lambda r: (r["spec"], r["batch"]))
    headings = ("spec", "batch", "floor µs", "graph µs", "plain call µs", "peer, graph µs", "peer, plain µs")
    body = [
        (r["spec"], str(r["batch"]), *(f"{r[k]:.1f}" for k in ("floor_us", "graph_us", "plain_us")),
         *(f"{r[k]:.1f}" if k in r else "" for k in ("peer_graph_us", "peer_plain_us")))
        for r in timed
    ]  # fmt: skip
    return caption("gpu_decode", "", machine) + table(headings, body) + _problems(rows)


def gpu_sizes() -> str:
    """One row per spec: sizes, types, shared heads and NaNs, and the largest part of a budget in each type."""
    _, machine, rows = results("gpu_sizes")
    body = []
    for spec in sorted({r["spec"] for r in rows if "case" in r}):
        own = [r for r in rows if r["spec"] == spec and "case" in r]
        share = [_worst(r["share"] for r in own if r["dtype"] == d and r["share"] is not None) for d in SIZED]
        cases = ", ".join(dict.fromkeys(r["case"] for r in own))
        body.append((spec, own[0]["form"], cases, *(f"{s:.2f}" for s in share),
                     f"{sum(r['passed'] for r in own)} of {len(own)}"))  # fmt: skip
    outside = "".join(f"- {r['spec']}, {r['case']}, {r['dtype']}, `{r['result']}`: {r['share']:.2f} of its budget\n"
                      for r in rows if not r.get("passed", True) and r["share"] is not None)  # fmt: skip
    headings = ("spec", "form", "dimensions, heads, NaN", *(f"of budget, {d}" for d in SIZED), "passed")
    return caption("gpu_sizes", "", machine) + table(headings, body, left=3) + outside + _problems(rows)


def gpu_graphs() -> str:
    """What CUDA graphs and torch.compile gave, in a sentence each, and what is missing or wrong."""
    _, machine, rows = results("gpu_graphs")
    sides = {side: [r for r in rows if r.get("side") == side] for side in ("forward", "training")}
    found = "".join(f"- CUDA graph of {side}: {len(own)} specs, {sum(r['same'] for r in own)} with the bits of an "
                    "eager call.\n" for side, own in sides.items() if own)  # fmt: skip
    traced = [r for r in rows if r.get("task") == "compile"]
    if traced:
        whole = sum(r["graphs"] == 1 and not r["breaks"] for r in traced)
        worst = _worst(r["difference"] for r in traced)
        found += (f"- `torch.compile(fullgraph=True)`, two lengths: {len(traced)} specs, {whole} in one graph "
                  f"without a break; results differ by {worst:.1e} at most.\n")  # fmt: skip
    wrong = "".join(f"- {r['spec']}, {r['side']}: other bits\n" for r in rows if r.get("same") is False)
    return caption("gpu_graphs", "", machine) + found + wrong + _problems(rows)


def gpu_decode_softmax() -> str:
    """Steps of softmax mixers from a cache, beside torch's attention of one query on the same keys and values."""
    _, machine, rows = results("gpu_decode_softmax")
    timed = [r for r in rows if "ms" in r]
    body = [(r["spec"], f"{r['past']:,}", f"{r['ms']:.3f}", f"{r['torch']:.3f}") for r in timed]
    checks = [r for r in rows if "error" in r]
    closing = (
        f"\n{len(checks)} comparisons with float64, {sum(not r['passed'] for r in checks)} outside their budget.\n"
    )
    headings = ("spec", "tokens in the cache", "step ms", "torch's attention ms")
    return caption("gpu_decode_softmax", "", machine) + table(headings, body) + closing + _problems(rows)


def gpu_large() -> str:
    """One row per spec and way: whether the last of more than 2^31 elements are what they are alone."""
    _, machine, rows = results("gpu_large")
    keys = dict.fromkeys((r["spec"], r["form"], r["case"]) for r in rows if "case" in r)
    body = []
    for key in keys:
        own = [r for r in rows if (r["spec"], r.get("form"), r.get("case")) == key]
        same = f"{sum(r['equal'] for r in own)} of {len(own)}"
        body.append((*key, f"{own[0]['elements'] / 2**31:.2f}", f"{own[0]['GiB']:.0f}", same))
    headings = ("spec", "form", "way", "elements / 2^31", "GiB", "results with the same bits")
    return caption("gpu_large", "", machine) + table(headings, body, left=3) + _problems(rows)


def gpu_examples() -> str:
    """The training examples on a GPU: losses, and seconds a step."""
    _, machine, rows = results("gpu_examples")
    body = [(f"`{r['example']}`", r["mixer"], str(r["steps"]), f"{r['loss before']:.3f}", f"{r['loss after']:.3f}",
             r["unit"], f"{r['ms a step']:.1f}") for r in rows if "loss after" in r]  # fmt: skip
    headings = ("example", "mixer", "steps", "held-out loss after one", "after all", "in", "ms a step")
    found, failed = table(headings, body, left=2), _problems(rows)
    windows = [(f"`{r['example']}`", r["mixer"], f"{w['context']:,}", f"{1 / w['seconds']:,.0f}",
                f"{w['state_bytes'] / 1e3:,.1f}") for r in rows for w in r.get("windows", [])]  # fmt: skip
    if windows:
        found += "\n" + table(("example", "mixer", "bytes before", "tokens per second", "state, kB"), windows, left=2)
    return caption("gpu_examples", "", machine) + found + (f"\n{failed}" if failed else "")


def kernel_resources() -> str:
    """One row per spec and form: of the kernels of either pass the one that takes the most stack."""
    title, machine, rows = results("kernel_resources")
    body = []
    for spec, form in sorted({(r["spec"], r["form"]) for r in rows}):
        own = [r for r in rows if (r["spec"], r["form"]) == (spec, form)]
        backward = [r for r in own if r["pass"].startswith("backward")]
        body.append((spec, form, _worst_kernel([r for r in own if r not in backward]), _worst_kernel(backward)))
    failed = [f"{r['spec']} {r['form']}" for r in rows if r["failed"]]
    beyond = [r for r in rows if not r["within limits"] and not r["failed"]]
    closing = f"\n{len(rows) - len(failed)} kernels, {len(beyond)} of them beyond the bounds (bold). "
    closing += f"Not compiled: {', '.join(failed) or 'none'}.\n"
    headings = ("spec", "form", "forward: shared / registers / stack", "backward: shared / registers / stack")
    return caption("kernel_resources", title, machine) + table(headings, body, left=2) + closing


def _worst_kernel(rows: Rows) -> str:
    """The kernel that takes the most and its figures, in bold when it is beyond the bounds."""
    if any(r["failed"] for r in rows):
        return "fails"
    if not rows:
        return ""
    r = max(rows, key=lambda r: (not r["within limits"], r["stack bytes"], r["shared bytes"]))
    text = f"{r['shared bytes']} / {r['registers']} / {r['stack bytes']}"
    return f"`{r['kernel']}` " + (text if r["within limits"] else f"**{text}**")


# ---- on numpy ---------------------------------------------------------------------------------------------------


def step_vs_chunked() -> str:
    return whole(
        "step_vs_chunked", {"step loop ms": ".0f", "chunked ms": ".0f", "times faster": ".1f", "us per token": ".0f"}
    )


def host_overhead() -> str:
    return whole("host_overhead", {"forward us": ".0f", "recorded forward us": ".0f", "training step us": ".0f"})


def crossover() -> str:
    return whole("crossover", {})


def compile_time() -> str:
    return whole("compile_time", {"first ms": ".0f", "ms": ".0f"})


def whole(name: str, formats: dict[str, str]) -> str:
    """A benchmark's table with every row, its numbers in these formats."""
    title, machine, rows = results(name)
    body = [[format(cell, formats.get(heading, "")) for heading, cell in row.items()] for row in rows]
    return caption(name, title, machine) + table(list(rows[0]), body)
