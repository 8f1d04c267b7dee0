"""`mixer.tune(...)` and `smir tune`: a search within a budget of seconds, with what it found as a report."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smir.compilation import Compilation
from smir.errors import ArgumentError, FormError
from smir.tuning.lookup import bucket_of, identity
from smir.tuning.problem import Problem
from smir.tuning.search import Counts, Search, Variant
from smir.tuning.settings import Setting
from smir.tuning.store import Store
from smir.tuning.targets import target
from smir.tuning.workshop import Workshop

if TYPE_CHECKING:
    from smir.passes.analysis.cost import Cost
    from smir.passes.analysis.select_form import Machine

BUDGET = 20.0
# Forms that the cost model predicts to be slower than the fastest by this factor aren't measured.
HOPELESS = 5.0


@dataclass(frozen=True)
class Row:
    """One form and chunk size that was measured, in milliseconds: by the rule's options, and by the best ones."""

    form: str
    chunk: int
    usual: float
    tuned: float
    kernels: tuple[tuple[str, Mapping[str, int]], ...]


@dataclass(frozen=True)
class TuningReport:
    """What was measured, the fastest first, and what became of the candidates."""

    mixer: str
    device: str
    calls: str
    rows: tuple[Row, ...]
    counts: Counts
    seconds: float
    path: str

    def to_json(self) -> dict[str, Any]:
        rows = [{"form": r.form, "chunk": r.chunk, "usual_ms": r.usual, "tuned_ms": r.tuned,
                 "kernels": {name: dict(options) for name, options in r.kernels}} for r in self.rows]  # fmt: skip
        counts = {"measured": self.counts.measured, "slower": self.counts.slower, "refused": self.counts.refused,
                  "quarantined": [{"candidate": n, "reason": why} for n, why in self.counts.quarantined]}  # fmt: skip
        return {"mixer": self.mixer, "device": self.device, "calls": self.calls, "rows": rows, **counts,
                "seconds": self.seconds, "file": self.path}  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{self.mixer} on {self.device}: {self.calls}"]
        for r in self.rows:
            lines.append(f"  {r.form}, chunk {r.chunk}: {r.usual:.3f} ms by the rule, {r.tuned:.3f} ms tuned")
            lines += [f"    {name}: {' '.join(f'{k}={v}' for k, v in options.items())}" for name, options in r.kernels]
        return "\n".join([*lines, *self.notes()])

    def notes(self) -> list[str]:
        """What became of the candidates, as lines."""
        c = self.counts
        lines = [f"  {c.measured} measured, {c.refused} left out by what they take, in {self.seconds:.1f} s"]
        return lines + [f"  never again: {name} ({why})" for name, why in c.quarantined]


def tune(
    done: Compilation,
    problem: Problem,
    forms: Sequence[str],
    chunk: int | None = None,
    budget: float = BUDGET,
    report: Callable[[str, float], object] = lambda text, part: None,
    store: Store | None = None,
    workshop: Workshop | None = None,
) -> TuningReport:
    """Searches these forms for `budget` seconds at most, and writes what it finds as it finds it.

    `chunk` is the only chunk size to try (None: those of the backend). `report(text, part)` is told what goes on and
    which part of the budget is spent. Raises ArgumentError for a budget that is no time, BackendError where nothing can
    be measured or written.
    """
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < float("inf"):
        raise ArgumentError(f"budget is a number of seconds, not {budget!r}", hint="for example budget=20")
    begin, tuned, store = time.monotonic(), target(problem.backend), store or Store()
    who, where = identity(done, problem), bucket_of(problem)
    shop = workshop or Workshop(problem, tuned.compiled_for(problem.device))
    known = store.update(who, lambda family: family)
    search = Search(
        done, problem, tuned, shop, forms, chunk,
        known=known.quarantine,
        settings=known.entries.get(where, {}),
        keep=lambda form, setting: store.update(who, lambda family: family.with_setting(where, form, setting)),
        quarantine=lambda name, why: store.update(who, lambda family: family.with_quarantined(name, why)),
        report=lambda text: report(text, search.spent),
        begin=begin,
        end=begin + budget,
    )  # fmt: skip
    shop.open()
    try:
        found = search.run()
    finally:
        shop.close()
    seconds = time.monotonic() - begin
    return TuningReport(done.spec.name, who.device, str(where), tuple(map(_row, found)), search.counts, seconds,
                        str(store.path(who)))  # fmt: skip


def _row(v: Variant) -> Row:
    changed: Setting = v.setting()
    return Row(v.form, v.chunk, v.usual_ms, v.whole, tuple((k.name, k.options) for k in changed.kernels))


def promising_forms(
    costs: "Mapping[str, Cost]", machine: "Machine", problem: Problem, form: str | None, legal: Sequence[str]
) -> list[str]:
    """The forms worth a measurement, the best by the cost model first. Raises FormError when none has kernels."""
    if not legal:
        raise FormError("a mixer that only runs as written has nothing to tune",
                        hint="`explain` says which law rules programs out")  # fmt: skip
    if form is not None:
        if form not in legal:
            raise FormError(
                f"the {form} form has no kernels of its own to tune", hint=f"forms that do: {', '.join(legal)}"
            )
        return [form]
    shape = problem.shape
    sequences = shape.batch * shape.most_heads
    predicted = {f: machine.seconds(f, costs[f], shape.tokens, shape.sizes, sequences) for f in legal}
    return [f for f in sorted(legal, key=predicted.__getitem__) if predicted[f] <= HOPELESS * min(predicted.values())]


@contextmanager
def progress_bar(name: str, shown: bool) -> Iterator[Callable[[str, float], object]]:
    """A bar on standard error, for people who wait, if it is to be shown."""
    if not shown:
        yield lambda text, part: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda text, part: bar.update(task, description=f"{name}: {text}", completed=min(part, 1.0))
