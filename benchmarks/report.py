"""What every benchmark shares: timing, a table, and JSON under benchmarks/results."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def best_seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """The fastest of several runs, after one that isn't counted."""
    call()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def publish(name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], **versions: str) -> Path:
    """Prints the table and writes it, with the machine's description, to `results/<name>.json`.

    `versions` are those of further packages that the result depends on.
    """
    show(title, columns, rows)
    return write(RESULTS / f"{name}.json", title, columns, rows, **versions)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console().print(table)


def write(path: Path, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], **versions: str) -> Path:
    """Writes a table with the machine's description, whole or not at all; `versions` as in `publish`."""
    machine = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **versions,
        "date": time.strftime("%Y-%m-%d"),
    }
    facts = {"title": title, "machine": machine, "rows": [dict(zip(columns, row, strict=True)) for row in rows]}
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path
