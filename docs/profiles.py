"""The generated blocks that say where the time of a training step goes, kernel by kernel."""

from docs import measured
from docs.measured import Rows, caption, table

# The part of a step's time from which a kernel gets a line.
SHARE = 0.04


def kernel_profile() -> str:
    """One row per spec and kernel that matters, at the first of the recorded shapes."""
    _, machine, rows = measured.results("kernel_profile")
    timed = [r for r in rows if "ms" in r]
    shape = timed[0]["shape"]
    sizes = f"{shape.replace('x', ' x ')}, {machine['sizes']}"
    title = f"kernels of a training step that take {SHARE:.0%} of it or more, {sizes}"
    headings = ("spec", "pass", "kernel", "ms", "bytes copied ms", "programs", "warps", "registers", "stack bytes",
                "shared bytes")  # fmt: skip
    body = [line for spec in dict.fromkeys(r["spec"] for r in timed)
            for line in _lines([r for r in timed if r["spec"] == spec and r["shape"] == shape])]  # fmt: skip
    return caption("kernel_profile", title, machine) + table(headings, body, left=3)


def _lines(rows: Rows) -> list[tuple[str, ...]]:
    whole = sum(r["ms"] for r in rows)
    lines = [(rows[0]["spec"], "both", "all", f"{whole:.2f}", *[""] * 6)] if rows else []
    for r in sorted(rows, key=lambda r: -r["ms"]):
        if r["ms"] >= SHARE * whole:
            figures = (r["programs"], r["options"]["num_warps"], r["registers"], r["stack"], r["shared"])
            lines.append((r["spec"], r["pass"], f"`{r['kernel']}`", f"{r['ms']:.3f}", f"{r['copy_ms']:.3f}",
                          *map(str, figures)))  # fmt: skip
    return lines


def kernel_instructions() -> str:
    """What the hottest kernels execute, beside what a card can issue."""
    title, machine, rows = measured.results("kernel_instructions")
    headings = tuple(rows[0])
    body = [tuple(f"{x:.3f}" if isinstance(x, float) else str(x) for x in r.values()) for r in rows]
    return caption("kernel_instructions", title, machine) + table(headings, body)
