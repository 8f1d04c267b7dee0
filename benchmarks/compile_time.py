"""Spec to kernel plans of all legal forms, for every spec of the library: milliseconds, all passes and checks included.

`first` is the first compilation of a fresh process, with the imports of all passes; `ms` every later one.

python -m benchmarks.compile_time
"""

import subprocess
import sys

from benchmarks.report import best_seconds, publish
from smir.compiler import compile_spec
from smir.specs import find_spec, library_names

LIMIT_MS = 300.0


def first_milliseconds(name: str) -> float:
    """The time of the first compilation in a process of its own."""
    script = (
        "import time; from smir.compiler import compile_spec; from smir.specs import find_spec; "
        "start = time.perf_counter(); "
        f"compile_spec(find_spec({name!r})); print(1e3 * (time.perf_counter() - start))"
    )
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def main() -> list[tuple[str, float, float, str, str]]:
    rows = []
    for name in library_names():
        source = find_spec(name)
        milliseconds = 1e3 * best_seconds(lambda source=source: compile_spec(source))  # type: ignore[misc]
        done = compile_spec(source)
        slowest = max(done.seconds, key=lambda stage: done.seconds[stage])
        rows.append((name, first_milliseconds(name), milliseconds, slowest, " ".join(done.forms)))
    title = f"spec to kernel plans, limit {LIMIT_MS:.0f} ms; slowest {max(row[2] for row in rows):.0f} ms"
    publish("compile_time", title, ("spec", "first ms", "ms", "slowest pass", "forms"), rows)
    return rows


if __name__ == "__main__":
    main()
