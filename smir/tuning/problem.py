"""What is sent to a child process: the calls that are tuned for, and one candidate to try."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from smir.calls.array_kinds import CPU, FLOATS, NUMPY, TORCH, dtype_of
from smir.calls.binding import Bound
from smir.compilation import Compilation
from smir.errors import ArgumentError, BackendError
from smir.source import Source
from smir.tuning.arguments import Shape

# Options of kernels by side (`forward`, `backward`) and name.
Chosen = Mapping[str, Mapping[str, Mapping[str, int]]]


@dataclass(frozen=True)
class Problem:
    """Calls of one kind: a spec, a backend, sizes, types by argument, and the arguments whose gradients are `wanted`.

    `kind` says of what arrays (numpy or torch).
    """

    source: tuple[str, str]
    backend: str
    shape: Shape
    dtypes: Mapping[str, str]
    device: str
    kind: str
    wanted: tuple[str, ...]

    @staticmethod
    def of(done: Compilation, backend: str, bound: Bound) -> "Problem":
        """Of calls like this one. Numpy runs 16-bit types as float32."""
        source = (done.source.name, done.source.text)
        kind, dtypes = bound.kind, {d.name: dtype_of(bound.arrays[d.name]) for d in done.spec.declarations}
        if backend == "numpy":
            kind = NUMPY
            dtypes = {name: "float64" if found == "float64" else "float32" for name, found in dtypes.items()}
        shape, wanted = Shape.of(done.spec, bound), tuple(sorted(bound.recorded & bound.arrays.keys()))
        return Problem(source, backend, shape, dtypes, bound.device, kind, wanted)

    @staticmethod
    def of_sizes(
        done: Compilation, backend: str, shape: Shape, dtype: str, device: str = CPU, wanted: Collection[str] = ()
    ) -> "Problem":
        """Of calls that nobody has arguments for: every argument has the same type."""
        kind = NUMPY if backend == "numpy" else TORCH
        dtypes = {d.name: dtype for d in done.spec.declarations}
        source = (done.source.name, done.source.text)
        return Problem(source, backend, shape, dtypes, device, kind, tuple(sorted(wanted)))

    @property
    def spec_source(self) -> Source:
        return Source(*self.source)

    @property
    def dtype(self) -> str:
        """The type in which products are computed: the only 16-bit type among the arguments, else the widest."""
        short = {d for d in self.dtypes.values() if d in ("bfloat16", "float16")}
        return short.pop() if len(short) == 1 else "float64" if "float64" in self.dtypes.values() else "float32"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Problem":
        source, wanted = (found["source"][0], found["source"][1]), tuple(found["wanted"])
        return Problem(**{**found, "source": source, "shape": Shape(**found["shape"]), "wanted": wanted})


@dataclass(frozen=True)
class Candidate:
    """A form and a chunk size, with options in place of those by rule. `timed` is the kernel whose time is asked for,
    by side and name; None: all kernels and the whole call."""

    form: str
    chunk: int
    options: Chosen = field(default_factory=dict)
    timed: tuple[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Candidate":
        timed = found["timed"]
        return Candidate(found["form"], found["chunk"], found["options"], tuple(timed) if timed else None)


def problem_here(done: Compilation, backend: str | None, shape: Shape, dtype: str, wanted: Collection[str]) -> Problem:
    """Of calls on this machine: on its GPU, if there is one and no other backend is asked for. Raises ArgumentError."""
    from smir.backends.triton_gpu.interpreter import is_interpreting

    device = CPU
    if backend != "numpy":
        import torch

        device = "cuda:0" if torch.cuda.is_available() and not is_interpreting() else CPU
    backend = backend or ("numpy" if device == CPU else "triton")
    known = FLOATS[NUMPY if backend == "numpy" else TORCH]
    if backend == "numpy" and dtype in FLOATS[TORCH] and dtype not in ("float32", "float64"):
        dtype = "float32"  # what numpy computes 16-bit types in
    if dtype not in known:
        raise ArgumentError(f"there is no type {dtype!r}", hint=f"one of {', '.join(known)}")
    if backend == "triton" and device == CPU and not is_interpreting():
        raise BackendError("there is no GPU here", hint="--backend numpy tunes the numpy programs")
    return Problem.of_sizes(done, backend, shape, dtype, device, wanted)
