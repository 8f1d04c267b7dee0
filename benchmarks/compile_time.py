"""Spec to kernel plans of all legal forms, for every spec of the library: milliseconds, all passes and checks included.

python -m benchmarks.compile_time
"""

from benchmarks.report import best_seconds, publish
from smir.compiler import compile_spec
from smir.specs import find_spec, library_names

LIMIT_MS = 300.0


def main() -> list[tuple[str, float, str, str]]:
    rows = []
    for name in library_names():
        source = find_spec(name)
        milliseconds = 1e3 * best_seconds(lambda source=source: compile_spec(source))  # type: ignore[misc]
        done = compile_spec(source)
        slowest = max(done.seconds, key=lambda stage: done.seconds[stage])
        rows.append((name, milliseconds, slowest, " ".join(done.forms)))
    title = f"spec to kernel plans, limit {LIMIT_MS:.0f} ms; slowest {max(row[1] for row in rows):.0f} ms"
    publish("compile_time", title, ("spec", "ms", "slowest pass", "forms"), rows)
    return rows


if __name__ == "__main__":
    main()
