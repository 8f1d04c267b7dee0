"""Tables of the command line."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from smir.ir.convolution import CONVOLUTION
from smir.ir.interval import REAL
from smir.ir.mixer import Mixer

if TYPE_CHECKING:
    from smir.bench.run import BenchReport
    from smir.compiled import CompiledMixer
    from smir.ir.kernel import KernelPlan
    from smir.passes.gradients.saved_values import TrainingPlan
    from smir.tuning.tune import TuningReport
    from smir.verify import Report


def show_declarations(mixer: Mixer, as_json: bool) -> None:
    """What a spec declares: kind, name, dimensions, range."""
    rows = [(d.kind, d.name, _dims(d.dims), "" if d.range == REAL else str(d.range)) for d in mixer.declarations]
    rows += [("state", s.name, _dims(s.dims), f"starts at {s.initial:g}") for s in mixer.states]
    rows.append(("output", "y", _dims(mixer.output_dims), ""))
    if as_json:
        keys = ("kind", "name", "dims", "range")
        _print_json({"mixer": mixer.name, "values": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        _print(f"mixer {mixer.name}", ("", "name", "dimensions", "range"), rows)


def show_compilation(
    mixer: "CompiledMixer", time_passes: bool, as_json: bool, training: "TrainingPlan | None" = None
) -> None:
    """The kernels of the chosen form, those of its gradients if there, and the time of every pass if asked."""
    plan, seconds = mixer.plan(), mixer.compilation.seconds
    kernels, backward = _kernels(plan), _kernels(training.backward if training else None)
    if as_json:
        gradients = {"backward_kernels": [k[0] for k in backward]} if training else {}
        _print_json({"mixer": mixer.spec.name, "forms": list(mixer.forms), "form": mixer.form,
                     "kernels": [k[0] for k in kernels], **gradients, "seconds": dict(seconds)})  # fmt: skip
        return
    print(f"{mixer.spec.name}: forms {', '.join(mixer.forms)}; chosen {mixer.form}")
    if mixer.form == CONVOLUTION:
        print(f"Fourier transforms between the compiled {', '.join(p.name for p in mixer.compilation.parts)}")
    for title, found in (("", kernels), ("gradients", backward)):
        if found:
            _print(title, ("kernel", "runs", "computes"), found)
    if time_passes:
        rows = [(name, f"{1e3 * s:.2f}") for name, s in [*seconds.items(), ("total", sum(seconds.values()))]]
        _print("", ("pass", "ms"), rows)


def _kernels(plan: "KernelPlan | None") -> list[tuple[str, str, str]]:
    """Every kernel of a plan: its name, how it runs, what it computes."""
    kernels = plan.kernels if plan else ()
    return [(k.name, "sequential" if k.sequential else "parallel over chunks", k.formula) for k in kernels]


def show_report(report: "Report") -> None:
    """The comparisons of `verify`."""
    if not report.rows:
        print(report)
        return
    rows = [("ok" if r.passed else "FAIL", r.form, r.dtype, r.case, r.result, f"{r.error:.1e}", f"{r.allowed:.1e}")
            for r in report.rows]  # fmt: skip
    _print(
        f"{report.mixer}: {report.verdict}",
        ("", "form", "dtype", "arguments", "result", "relative RMS error", "allowed"),
        rows,
    )
    for text in report.unproved:
        print(f"not proved bounded: {text}")


def show_tuning(report: "TuningReport") -> None:
    """What the tuner measured, and what became of the candidates."""
    rows = [(r.form, str(r.chunk), f"{r.usual:.3f}", f"{r.tuned:.3f}",
             "; ".join(f"{name}: {' '.join(f'{k}={v}' for k, v in o.items())}" for name, o in r.kernels))
            for r in report.rows]  # fmt: skip
    _print(
        f"{report.mixer} on {report.device}: {report.calls}",
        ("form", "chunk", "ms by rule", "ms tuned", "changed kernels"),
        rows,
    )
    print(*report.notes(), f"  kept in {report.path}", sep="\n")


def show_bench(report: "BenchReport") -> None:
    """Times, ratios to the best peer and to the device's limit; peers' first calls apart."""
    c = report.ceilings

    def number(value: float | None, spelling: str) -> str:
        return "" if value is None else format(value, spelling)

    rows = [(t.what, f"{t.batch} x {t.tokens}", t.who, t.error or number(t.milliseconds, ".3f"),
             number(report.of_best_peer(t), ".2f"), number(t.of_limit, ".1%"), number(t.difference, ".1e"),
             number(t.first_seconds, ".1f")) for t in report.timings]  # fmt: skip
    who = Column(no_wrap=True, min_width=max((len(t.who) for t in report.timings), default=0))
    columns = (Column(no_wrap=True), "B x T", who, "ms", "x best peer", "of limit", "differs", "first s")
    _print(f"{report.mixer}: {report.calls}", columns, rows)
    print(f"{c.device} now: copies {c.bytes_per_second / 1e9:.0f} GB/s, {c.dtype} products "
          f"{c.flops_per_second / 1e12:.2f} Tflop/s")  # fmt: skip


def show_library(as_json: bool) -> None:
    """Every library spec: what its states are, its legal forms, where it was published."""
    from smir.catalogue import library

    entries = library()
    if as_json:
        _print_json([e.to_json() for e in entries])
        return
    rows = [(e.name, e.type, ", ".join(e.forms), e.reference or e.about) for e in entries]
    _print("", ("name", "class", "forms", "reference"), rows)


def _dims(dims: tuple[Any, ...]) -> str:
    return ", ".join(map(str, dims)) or "scalar"


def _print(title: str, columns: tuple[str | Column, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Cells are plain text: brackets of ranges and formulas are no markup."""
    table = Table(*columns, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
