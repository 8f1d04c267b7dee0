"""Sequence mixers as what they are: associative memories that read real text, byte by byte, without training.

A token's key is a unit-norm random vector for the last three bytes, its value the next byte, one-hot. A token asks the
memory with its own key before its value is written (the writes are one token late), so nothing leaks.

    python -m examples.associative_memory [--tokens 16384] [--out demo-output]
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import smir
from examples.real_text import real_text
from smir.compiled import CompiledMixer

Array = NDArray[Any]
CONTEXT = 3
KEY_SIZE = 256
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
PATIENCE = 1.5  # seconds; a form isn't timed at lengths that would take longer
PICTURED = 96


@dataclass(frozen=True)
class Memory:
    """A mixer of the library and what its gates are held at."""

    spec: str
    gates: Mapping[str, float] = field(default_factory=dict)

    def arguments(self, mixer: CompiledMixer, q: Array, k: Array, v: Array) -> dict[str, Any]:
        """q, k, v and the constant gates, one number per time step or, for parameters, per head."""
        params = {d.name for d in mixer.spec.params}
        shapes = {name: (1,) if name in params else q.shape[:3] for name in self.gates}
        return {"q": q, "k": k, "v": v, **{n: np.full(shapes[n], x, q.dtype) for n, x in self.gates.items()}}


MEMORIES = (
    Memory("linear_attention"),
    Memory("retnet", {"gamma": 0.9995}),
    Memory("scalar_decay", {"g": -0.001}),
    Memory("delta_rule", {"beta": 0.4}),
    Memory("gated_delta_rule", {"g": -0.0001, "beta": 0.4}),
)


@dataclass(frozen=True)
class Stream:
    """A text as keys, queries and values `[1, T, 1, size]`, and the byte numbers `[T]` to predict."""

    q: Array
    k: Array
    v: Array
    contexts: Array
    targets: Array


@dataclass
class Results:
    """What the demo measured, by mixer."""

    accuracy: dict[str, float] = field(default_factory=dict)
    hits: dict[str, Array] = field(default_factory=dict)
    seconds: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    operators: dict[str, Array] = field(default_factory=dict)
    verified: dict[str, bool] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)


def read_stream(tokens: int, key_size: int = KEY_SIZE, seed: int = 0) -> Stream:
    """The text's keys and values; writes are delayed by one token."""
    text = np.frombuffer(bytes(CONTEXT) + real_text(tokens), np.uint8).astype(np.int64)
    trigrams = sum(text[i : i + tokens] << (8 * i) for i in range(CONTEXT))
    distinct, contexts = np.unique(trigrams, return_inverse=True)
    _, targets = np.unique(text[CONTEXT:], return_inverse=True)
    embedding = np.random.default_rng(seed).standard_normal((len(distinct), key_size))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    q = embedding[contexts].astype(np.float32)
    v = np.eye(targets.max() + 1, dtype=np.float32)[targets]
    return Stream(_batch(q), _batch(_late(q)), _batch(_late(v)), contexts, targets)


def predict(memory: Memory, mixer: CompiledMixer, stream: Stream) -> Array:
    """Whether the memory's strongest answer is the next byte, for every token `[T]`."""
    answers: Array = mixer(**memory.arguments(mixer, stream.q, stream.k, stream.v))[0, :, 0]
    hits: Array = answers.argmax(axis=-1) == stream.targets
    return hits


def operator_matrix(memory: Memory, mixer: CompiledMixer, stream: Stream, start: int, tokens: int) -> Array:
    """The T x T matrix that the mixer multiplies the values with: its answers to one-hot positions."""
    part = slice(start, start + tokens)
    positions = np.eye(tokens, dtype=np.float32)[None, :, None]
    found: Array = mixer(**memory.arguments(mixer, stream.q[:, part], stream.k[:, part], positions))[0, :, 0]
    return found


def baselines(stream: Stream) -> dict[str, Array]:
    """Hits of always guessing the commonest byte, and of a table with one exact row of counts per context.

    The table guesses the commonest byte so far where the context is new.
    """
    targets = stream.targets.tolist()
    table: dict[int, Counter[int]] = {}
    overall: Counter[int] = Counter()
    hits = np.zeros(len(targets), bool)
    for t, (context, target) in enumerate(zip(stream.contexts.tolist(), targets, strict=True)):
        row = table.setdefault(context, Counter())
        hits[t] = _commonest(row or overall) == target
        row[target] += 1
        overall[target] += 1
    return {"commonest byte": stream.targets == _commonest(overall), "exact table of contexts": hits}


def _commonest(counts: Counter[int]) -> int | None:
    return max(counts, key=counts.__getitem__, default=None)


def time_forms(memory: Memory, stream: Stream, lengths: Sequence[int]) -> dict[str, dict[int, float]]:
    """Seconds of one call by form and length; lengths that would take too long are left out."""
    found: dict[str, dict[int, float]] = {}
    for form in smir.compile(memory.spec).forms:
        mixer, seconds = smir.compile(memory.spec, form=form), found.setdefault(form, {})
        for T in (t for t in lengths if t <= len(stream.targets)):
            call = memory.arguments(mixer, *(a[:, :T] for a in (stream.q, stream.k, stream.v)))
            seconds[T] = min(_seconds(mixer, call) for _ in range(2))
            if seconds[T] > PATIENCE / 4:
                break
    return found


def run(
    tokens: int, lengths: Sequence[int], report: Callable[[str], None], memories: Sequence[Memory] = MEMORIES
) -> Results:
    """Everything but printing; `report` hears of each finished step."""
    stream, results = read_stream(tokens), Results()
    for name, hits in baselines(stream).items():
        results.accuracy[name], results.hits[name] = float(hits.mean()), hits
    for memory in memories:
        mixer, name = smir.compile(memory.spec), memory.spec
        results.verified[name] = mixer.verify().passed
        report(f"verified {name}")
        results.hits[name] = predict(memory, mixer, stream)
        results.accuracy[name] = float(results.hits[name].mean())
        results.forms[name] = mixer.form_for(T=tokens, K=KEY_SIZE, V=stream.v.shape[-1])
        report(f"read the text with {name}")
        pictured = min(PICTURED, tokens // 2)
        results.operators[name] = operator_matrix(memory, mixer, stream, tokens // 2, pictured)
        results.seconds[name] = time_forms(memory, stream, lengths)
        report(f"timed {name}")
    return results


def show(results: Results, console: Console) -> None:
    """Two tables: accuracy per mixer, milliseconds per form as T grows."""
    accuracy = Table(title="next-byte accuracy, no training", title_justify="left")
    for column in ("memory", "verified", "form used", "accuracy", "second half"):
        accuracy.add_column(column, justify="right" if column in ("accuracy", "second half") else "left", no_wrap=True)
    for name, value in sorted(results.accuracy.items(), key=lambda item: item[1]):
        verified = {None: "", True: "yes", False: "NO"}[results.verified.get(name)]
        hits = results.hits[name]
        half = float(hits[len(hits) // 2 :].mean())
        accuracy.add_row(name, verified, results.forms.get(name, ""), f"{value:.1%}", f"{half:.1%}")
    console.print(accuracy)
    lengths = sorted({T for forms in results.seconds.values() for times in forms.values() for T in times})
    timing = Table(title="milliseconds per call of T tokens", title_justify="left")
    for column in ("mixer", "form", *map(str, lengths)):
        timing.add_column(column, justify="right" if column.isdigit() else "left", no_wrap=True)
    for name, forms in results.seconds.items():
        for form, times in forms.items():
            timing.add_row(name, form, *(f"{1e3 * times[T]:.1f}" if T in times else "-" for T in lengths))
    console.print(timing)


def main(arguments: Sequence[str] | None = None) -> Results:
    """The demo. Exits with 1 when a form doesn't agree with the oracle."""
    options = _options().parse_args(arguments)
    console = Console()
    console.print(f"Mixers as associative memories on {options.tokens} bytes of Python's own documentation")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("compiling", total=3 * len(MEMORIES))
        lengths = [T for T in LENGTHS if options.tokens >= T]
        results = run(options.tokens, lengths, lambda done: progress.update(task, advance=1, description=done))
    show(results, console)
    from examples.pictures import save_picture

    path = save_picture(results, options.out)
    console.print(f"picture: {path}")
    if not all(results.verified.values()):
        raise SystemExit("a form disagrees with the oracle")
    return results


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16384, help="bytes of text to read (at least 64)")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder of the picture")
    return parser


def _late(rows: Array) -> Array:
    """The rows one token later; the first token writes nothing."""
    return np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])


def _batch(rows: Array) -> Array:
    return rows[None, :, None]


def _seconds(mixer: CompiledMixer, call: Mapping[str, Any]) -> float:
    start = time.perf_counter()
    mixer(**call)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
