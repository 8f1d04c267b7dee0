"""The generated blocks that hold ours beside other people's kernels on a GPU, and ours against sizes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.ahead import COMPILE, MEASURE
from benchmarks.gpu_first_call import COLD, NEW, TUNED
from benchmarks.gpu_ratios import CEILINGS, OURS
from benchmarks.ratio_rows import ROWS, TOKENS, Row
from docs import measured
from docs.measured import Rows, caption, table
from smir.bench.floors import BOTH, FORWARD

TIMED = {FORWARD: "forward_ms", BOTH: "both_ms"}
Found = Mapping[str, Any]


def gpu_ratios() -> str:
    """One row per spec, shape and peer: times, their ratio, what is wanted, how close to the limit, memory."""
    _, machine, rows = measured.results("gpu_ratios")
    ceilings = next((r for r in rows if r["who"] == CEILINGS and "error" not in r), None)
    if ceilings is None:
        return "The recorded run has no ceilings: `python -m benchmarks.gpu_ratios` goes on with it.\n"
    bandwidth, products = ceilings["bytes_per_second"] / 1e12, ceilings["flops_per_second"] / 1e12
    title = (f"forward / forward and backward, bfloat16, 16 heads, dimensions of 128 but for those named; the card "
             f"copies {bandwidth:.2f} TB/s (read and written) and multiplies at {products:.0f} TFLOP/s")  # fmt: skip
    headings = ("spec", "B x T", "peer", "ms", "peer's ms", "peer's / ours", "wanted", "of the limit", "MiB",
                "peer's MiB")  # fmt: skip
    body = [line for name, row in ROWS.items() for tokens in TOKENS
            for line in _lines(name, row, tokens, rows, ceilings)]  # fmt: skip
    failed = [f"- {r['row']}, {r['who']}: {_last_line(r['error'])}\n" for r in rows
              if "error" in r and r["task"] == MEASURE]  # fmt: skip
    return caption("gpu_ratios", title, machine) + table(headings, body, left=3) + "\n" + "".join(failed)


def _lines(name: str, row: Row, tokens: tuple[int, int], rows: Rows, ceilings: Found) -> Iterator[tuple[str, ...]]:
    """Ours beside every peer that was measured, or beside the limit; alone, where there is nothing else."""
    ours = _timed(rows, name, OURS, tokens)
    if ours is None:
        return
    limits = {what: _limit(ours[what], ceilings) for what in TIMED}
    close = " / ".join(f"{limits[what] / ours[TIMED[what]]:.2f}" for what in TIMED)
    peers = {who: found for who in row.peers if (found := _timed(rows, name, who, tokens))}
    for who in peers or ("",):
        theirs = peers.get(who)
        note = f" ({row.note})" if row.note and who == row.rival else ""
        cells = [_with_sizes(name, row), f"{tokens[0]} x {tokens[1]}", f"`{who}`{note}" if who else "", _both(ours)]
        cells += [_both(theirs), _ratio(theirs, ours)] if theirs else ["", ""]
        wanted = _wanted(row) if who == row.rival else ""
        yield (*cells, wanted, close, _memory(ours), _memory(theirs) if theirs else "")


def gpu_first_calls() -> str:
    """One row per implementation: what its first training step takes, compiled by many processes and not."""
    _, machine, rows = measured.results("gpu_ratios")
    body = []
    for key in dict.fromkeys((r["row"], r["who"]) for r in rows if r["task"] == COMPILE):
        own = [r for r in rows if (r["row"], r["who"]) == key]
        walls = [r["wall_s"] for r in own if r["task"] == COMPILE and "wall_s" in r]
        tried = [r["configurations"] for r in own if r["task"] == COMPILE and "configurations" in r]
        first = [r["first_s"] for r in own if r["task"] == MEASURE and "first_s" in r]
        if walls and first:
            body.append((*key, str(max(tried, default=0)), f"{max(walls):.0f}", f"{first[0]:.1f}"))
    title = "seconds until the first gradient: compiling for both shapes beside all others, and then, compiled"
    headings = ("spec", "who", "configurations tried", "compile s", "first step s")
    return caption("gpu_ratios", title, machine) + table(headings, body, left=2)


def gpu_first_call() -> str:
    """One row per spec: what a user waits for, alone on the machine."""
    _, machine, rows = measured.results("gpu_first_call")
    body = []
    for spec in dict.fromkeys(r["spec"] for r in rows):
        own = {r.get("case", r["task"]): r for r in rows if r["spec"] == spec and "task" in r}
        cells = [
            f"{r['forward_s']:.2f} / {r['training_s']:.2f}" if (r := own.get(case)) else "" for case in (COLD, NEW)
        ]
        again = f"{own[NEW]['again_ms']:.1f}" if NEW in own else ""
        searched = own.get(TUNED)
        found = (
            (f"{searched['tune_s']:.0f}", f"{searched['usual_ms']:.2f} / {searched['tuned_ms']:.2f}")
            if searched
            else ("", "")
        )
        body.append((spec, *cells, again, *found))
    headings = ("spec", "cold, s", "new process, s", "again, ms", "cold search, s", "step by rule / as found, ms")
    title = "seconds of a first forward call / of the first training step after it"
    return caption("gpu_first_call", f"{title}; {machine['sizes']}", machine) + table(headings, body)


def gpu_scaling_lengths() -> str:
    """One row per spec: times at every T, the number of tokens the same."""
    return _scaling("T", lambda r: f"T = {r['T']:,}", "2^18 tokens in sequences of T, 4 heads, K = V = 128")


def gpu_scaling_sizes() -> str:
    """One row per spec: times at every K = V."""
    return _scaling("K = V", lambda r: f"K = V = {r['K']}", "4 x 4096 tokens, 16 heads")


def gpu_scaling_heads() -> str:
    """One row per spec: times at every B H."""
    return _scaling("B H", lambda r: f"B H = {r['B'] * r['H']}", "4096 tokens, 8 heads, K = V = 128")


def cpu_peers() -> str:
    """Every row of the numpy programs beside token-by-token peers."""
    return measured.whole("cpu_peers", {"forward ms": ".1f", "forward + backward ms": ".0f"})


def _scaling(sweep: str, label: Callable[[Found], str], about: str) -> str:
    _, machine, found = measured.results("gpu_scaling")
    rows = [r for r in found if r["who"].startswith(sweep) and "both_ms" in r and r["task"] == MEASURE]
    labels = dict.fromkeys(label(r) for r in rows)
    times = {(r["row"], label(r)): _both(r) for r in rows}
    body = [
        (name, *(times.get((name, point), "") for point in labels)) for name in dict.fromkeys(r["row"] for r in rows)
    ]
    title = f"milliseconds, forward / forward and backward: {about}"
    return caption("gpu_scaling", title, machine) + table(("spec", *labels), body)


def _timed(rows: Rows, name: str, who: str, tokens: tuple[int, int]) -> Found | None:
    return next((r for r in rows if (r["row"], r["who"]) == (name, who) and "both_ms" in r
                 and (r["batch"], r["tokens"]) == tokens), None)  # fmt: skip


def _with_sizes(name: str, row: Row) -> str:
    sizes = ", ".join(f"{dim} = {size}" for dim, size in row.sizes.items())
    return f"{name} ({sizes})" if sizes and name == row.spec else name


def _limit(least: Mapping[str, float], ceilings: Mapping[str, float]) -> float:
    """Milliseconds that the device can't undercut."""
    return 1e3 * max(least["bytes"] / ceilings["bytes_per_second"], least["flops"] / ceilings["flops_per_second"])


def _both(row: Found) -> str:
    return " / ".join(f"{row[column]:.2f}" for column in TIMED.values())


def _ratio(theirs: Found, ours: Found) -> str:
    return " / ".join(f"{theirs[column] / ours[column]:.2f}" for column in TIMED.values())


def _wanted(row: Row) -> str:
    if row.forward is None or row.both is None:
        return ""
    if row.beside_floor:
        return f"{1 / row.forward:.2f} / {1 / row.both:.2f} of the limit"
    return f"{row.forward:g} / {row.both:g}"


def _memory(row: Found) -> str:
    return f"{row['forward_MiB']:.0f} / {row['both_MiB']:.0f}"


def _last_line(text: str) -> str:
    return f"`{text.strip().splitlines()[-1][:200]}`" if text.strip() else "ended early"
