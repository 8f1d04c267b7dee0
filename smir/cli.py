"""The command `smir`: check, explain, compile, emit, verify, tune, bench and list, on a spec file or a library name.

Exit codes: 0 fine, 1 a verification failed, 2 an error of the spec or the call (one message on stderr).
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from smir.errors import ArgumentError, SmirError

app = typer.Typer(
    help="Compile sequence mixers: step equations or a masked operator in, programs and kernels out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Spec = Annotated[str, typer.Argument(help="a library name, a spec file, the text itself, or - for standard input")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Form = Annotated[
    str | None, typer.Option("--form", help="step, scan, chunked, quadratic or convolution (default: the cheapest)")
]
Chunk = Annotated[int | None, typer.Option("--chunk", help="tokens per chunk")]
Backend = Annotated[str | None, typer.Option("--backend", help="numpy or triton (default: by the arrays)")]
Dtype = Annotated[str, typer.Option("--dtype", help="of all arguments")]
Shapes = Annotated[str, typer.Option("--shape", help="sizes: B=4,T=4096,H=16,K=128,V=128")]
Sizes = Annotated[list[str] | None, typer.Option("--size", help="NAME=NUMBER, the size of a dimension (repeatable)")]


@app.command()
def check(spec: Spec, as_json: Json = False) -> None:
    """Read and type-check a spec, and say what it declares."""
    from smir.frontends import parse_mixer
    from smir.tables import show_declarations

    show_declarations(parse_mixer(_source(spec)), as_json)


@app.command()
def explain(
    spec: Spec,
    form: Form = None,
    backend: Backend = None,
    sizes: Sizes = None,
    shape: Shapes = "",
    dtype: Dtype = "bfloat16",
    as_json: Json = False,
) -> None:
    """What was recognised, which forms are legal and why others are not, what they cost.

    With --shape, also what has been measured for calls like that on this machine, or why nothing is used.
    """
    mixer = _compiled(spec, form, backend, None)
    found = mixer.explain(**_sizes(sizes))
    tuning = _tuning(mixer, shape, dtype, backend) if shape else []
    if as_json:
        _print_json({**found.to_json(), **({"tuning": tuning} if shape else {})})
    else:
        print(found, *tuning, sep="\n  ")


@app.command(name="compile")
def compile_command(
    spec: Spec,
    form: Form = None,
    chunk: Chunk = None,
    backend: Backend = None,
    print_ir_after_all: Annotated[
        bool, typer.Option("--print-ir-after-all", help="print the IR after every pass")
    ] = False,
    time_passes: Annotated[bool, typer.Option("--time-passes", help="print the time of every pass")] = False,
    gradients: Annotated[bool, typer.Option("--gradients", help="compile the backward pass of the form too")] = False,
    as_json: Json = False,
) -> None:
    """Compile a spec to kernel plans, verifying after every pass."""
    from smir.compiler import Options
    from smir.tables import show_compilation

    options = Options(print_after_all=print_ir_after_all)
    mixer = _compiled(spec, form, backend, chunk, options)
    show_compilation(mixer, time_passes, as_json, mixer.training_plan(options=options) if gradients else None)


@app.command()
def emit(
    spec: Spec,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for the files")] = Path("."),
    form: Form = None,
    chunk: Chunk = None,
    backend: Backend = "numpy",
    as_json: Json = False,
) -> None:
    """Write the program as readable source: numpy alone, or Triton kernels with their launcher."""
    files = _compiled(spec, form, backend, chunk).emit(out)
    _print_json({"files": [str(f) for f in files]}) if as_json else print(*files, sep="\n")


@app.command()
def verify(
    spec: Spec,
    chunk: Chunk = None,
    tokens: Annotated[int, typer.Option("--tokens", "-T", help="length of the random sequences")] = 50,
    seed: Annotated[int, typer.Option("--seed", help="of the random arguments")] = 0,
    gradients: Annotated[bool, typer.Option("--gradients", help="compare the gradients of all arguments too")] = False,
    sizes: Sizes = None,
    as_json: Json = False,
) -> None:
    """Compare every legal form with the float64 oracle on random arguments inside the promised ranges."""
    from smir.tables import show_report

    report = _compiled(spec, None, None, chunk).verify(T=tokens, seed=seed, gradients=gradients, sizes=_sizes(sizes))
    _print_json(report.to_json()) if as_json else show_report(report)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def tune(
    spec: Spec,
    shape: Shapes = "",
    dtype: Dtype = "bfloat16",
    budget: Annotated[float, typer.Option("--budget", help="seconds")] = 20.0,
    gradients: Annotated[bool, typer.Option("--gradients/--forward", help="training, or the output alone")] = True,
    form: Form = None,
    chunk: Chunk = None,
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """Measure forms, chunk sizes and launch options for calls of this shape, and remember the fastest."""
    from smir.tables import show_tuning

    mixer = _compiled(spec, form, backend, chunk)
    report = mixer.tune_for(_problem(mixer, shape, dtype, gradients, backend), budget, sys.stderr.isatty())
    _print_json(report.to_json()) if as_json else show_tuning(report)
    raise typer.Exit(0 if report.rows else 1)


@app.command()
def bench(
    spec: Spec,
    shapes: Annotated[list[str] | None, typer.Option("--shape", help="B=4,T=4096,H=16,K=128 (repeatable)")] = None,
    dtype: Dtype = "bfloat16",
    peers: Annotated[str, typer.Option("--peers", help="packages with commas, `none`; default: all installed")] = "",
    what: Annotated[
        str, typer.Option("--what", help="with commas: forward, training, decode")
    ] = "forward,training,decode",
    form: Form = None,
    chunk: Chunk = None,
    backend: Backend = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="folder for the JSON and a plot")] = None,
    as_json: Json = False,
) -> None:
    """Time forward, training and decoding beside the peers that are installed, and beside the device's limit."""
    from smir.bench.floors import BOTH
    from smir.bench.run import bench, wanted_kinds
    from smir.tables import show_bench
    from smir.tuning.tune import progress_bar

    mixer, kinds = _compiled(spec, form, backend, chunk), wanted_kinds(what)
    problems = [_problem(mixer, shape, dtype, BOTH in kinds, backend) for shape in shapes or [""]]
    packages = {p for p in peers.split(",") if p != "none"} if peers else None
    with progress_bar(mixer.spec.name, sys.stderr.isatty()) as tell:
        report = bench(mixer, problems, packages, kinds, tell)
    if out is not None:
        _write_bench(report, out)
    _print_json(report.to_json()) if as_json else show_bench(report)


@app.command(name="list")
def list_command(as_json: Json = False) -> None:
    """The specs of the library."""
    from smir.tables import show_library

    show_library(as_json)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; never a traceback for what a person did wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments, prog_name="smir")
    except SmirError as error:
        print(json.dumps(error.to_json()) if "--json" in arguments else f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def _source(spec: str) -> Any:
    from smir.source import Source
    from smir.specs import find_spec

    return Source("<stdin>", sys.stdin.read()) if spec == "-" else find_spec(spec)


def _compiled(spec: str, form: str | None, backend: str | None, chunk: int | None, options: Any = None) -> Any:
    from smir.compiled import compile_source
    from smir.compiler import Options

    return compile_source(_source(spec), form=form, backend=backend, chunk=chunk, options=options or Options())


def _write_bench(report: Any, folder: Path) -> None:
    """`<mixer>.json` and `<mixer>.png`."""
    from smir.bench.pictures import draw_report

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{report.mixer}.json").write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
        draw_report(report, folder / f"{report.mixer}.png")
    except OSError as error:
        raise ArgumentError(f"can't write to {folder}: {error}", hint="name another folder") from error


def _problem(mixer: Any, shape: str, dtype: str, gradients: bool, backend: str | None) -> Any:
    """Calls of this shape where they would run: on the GPU if there is one and nothing else was asked for."""
    from smir.tuning.problem import problem_here
    from smir.tuning.shapes import parse_shape

    wanted = [d.name for d in mixer.spec.declarations] if gradients else []
    return problem_here(mixer.compilation, backend, parse_shape(mixer.spec, shape), dtype, wanted)


def _tuning(mixer: Any, shape: str, dtype: str, backend: str | None) -> list[str]:
    """Of calls of this shape, forward alone and with gradients."""
    from smir.tuning.lookup import explain_tuning

    lines = []
    for gradients in (False, True) if mixer.compilation.plans else ():
        asked = _problem(mixer, shape, dtype, gradients, backend)
        sequences = asked.shape.batch * asked.shape.most_heads
        preferred = mixer.form_for(asked.shape.tokens, sequences, asked.backend, **asked.shape.sizes)
        lines += explain_tuning(mixer.compilation, asked, preferred)
    return lines


def _sizes(sizes: list[str] | None) -> dict[str, int]:
    found = {}
    for text in sizes or []:
        name, _, number = text.partition("=")
        if not (name.isidentifier() and number.isdigit() and int(number) > 0):
            raise ArgumentError(f"--size {text!r} is not NAME=NUMBER", hint="for example --size K=64")
        found[name] = int(number)
    return found


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
