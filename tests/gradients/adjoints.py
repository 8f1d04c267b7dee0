"""Gradients of a compiled spec in any of its forms, the way the compiler makes them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.backends.numpy_reference.tile_interpreter import run_tile_results
from smir.compilation import FORMS, Compilation
from smir.compiler import Options, compile_spec
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.tile_program import QUADRATIC, STEP, TileProgram
from smir.library import load as load_spec
from smir.passes.analysis.stops import unmarked
from smir.passes.forms.lower_chunked import lower_chunked
from smir.passes.gradients.adjoint_program import adjoint_program
from smir.passes.kernels.partition import partition
from smir.passes.pairs.pair_adjoint import pair_adjoint
from smir.passes.tiles.simplify_tiles import simplify
from smir.source import Source
from smir.verify import start_states

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Point:
    """Where gradients are taken: arguments and initial states, and the cotangents of the output and of final states.

    Canonical layout; every state is given and has a cotangent.
    """

    arrays: Arrays
    states: Arrays
    dy: np.ndarray
    dfinal: Arrays

    def cast(self, dtype: type) -> "Point":
        """The same in another float type."""

        def each(group: Arrays) -> Arrays:
            return {n: a.astype(dtype) for n, a in group.items()}

        return Point(each(self.arrays), each(self.states), self.dy.astype(dtype), each(self.dfinal))


def state_key(name: str) -> str:
    """Where the gradient of an initial state is found among the arguments' gradients."""
    return f"state {name}"


class Gradients:
    """The backward passes of one spec, each form compiled once."""

    def __init__(self, source: Source) -> None:
        self.done: Compilation = compile_spec(source, Options(verify_each=False))
        self.mixer: Mixer = self.done.spec
        self.forms = tuple(f for f in FORMS if f in self.done.tiles)
        self.tiles: dict[tuple[str, tuple[str, ...]], TileProgram] = {}
        self.plans: dict[tuple[str, tuple[str, ...]], KernelPlan] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that has a gradient."""
        return (*(d.name for d in self.mixer.declarations), *(s.name for s in self.mixer.states))

    @property
    def erases(self) -> bool:
        """Whether some state is corrected by what it reads of itself."""
        return self.done.operators is not None and any(o.erases for o in self.done.operators.operators)

    def forward(self, form: str) -> TileProgram:
        """The program that is differentiated: the quadratic form is one chunk as long as the sequence."""
        if form != QUADRATIC:
            return self.done.tiles[form]
        assert self.done.operators is not None
        return replace(lower_chunked(self.done.operators), form=QUADRATIC)

    def program(self, form: str, wanted: Collection[str] | None = None) -> TileProgram:
        """The backward pass as a tile program."""
        names = self.names if wanted is None else tuple(wanted)
        if (form, names) not in self.tiles:
            pairs = self.done.pairs
            made = adjoint_program(self.forward(form), names) if pairs is None else pair_adjoint(pairs, names)
            self.tiles[form, names] = simplify(unmarked(made))
        return self.tiles[form, names]

    def plan(self, form: str, wanted: Collection[str] | None = None) -> KernelPlan:
        """The backward pass as kernels."""
        names = self.names if wanted is None else tuple(wanted)
        if (form, names) not in self.plans:
            self.plans[form, names] = partition(self.program(form, names))
        return self.plans[form, names]

    def __call__(
        self, form: str, chunk: int, at: Point, wanted: Collection[str] | None = None, by_tiles: bool = False
    ) -> Arrays:
        """Gradients by name, initial states' by `state_key`; `by_tiles` runs the tile program instead of the plan."""
        rows, scaled = 1 if form == STEP else chunk, self.done.scaled_states
        start, dfinal = start_states(self.done, at.arrays, at.states), at.dfinal
        if scaled.members:
            _, last = run_results(self.done.plans[STEP], at.arrays, start, chunk=1)
            dfinal = {n: (a * scaled.scale(n, last)).astype(a.dtype) for n, a in dfinal.items()}
        arrays = {**at.arrays, "d_y": at.dy}
        states = {**start, **{f"d_{n}": a for n, a in dfinal.items()}}
        if by_tiles:
            found, final = run_tile_results(self.program(form, wanted), arrays, states, chunk=rows)
        else:
            found, final = run_results(self.plan(form, wanted), arrays, states, chunk=rows)
        gradients = {n.removeprefix("d_"): a for n, a in found.items()}
        of_states = {n.removeprefix("d_"): a for n, a in final.items()}
        return gradients | {state_key(n): a / scaled.scale(n, start) for n, a in of_states.items()}


@cache
def library(name: str) -> Gradients:
    """A library spec's backward passes."""
    return Gradients(load_spec(name))


def spec(text: str) -> Gradients:
    """The backward passes of a spec given as text."""
    return Gradients(Source("<spec>", text))


def random_cotangents(mixer: Mixer, arrays: Arrays, states: Arrays, seed: int) -> Point:
    """A point with normal cotangents; states that aren't given start at normal values."""
    rng = np.random.default_rng(seed)
    y, final = run_mixer(mixer, arrays, states)
    dfinal = {s.name: rng.normal(size=final[s.name].shape) for s in mixer.states}
    return Point(arrays, states, rng.normal(size=y.shape), dfinal)


def loss(mixer: Mixer, at: Point) -> float:
    """The number whose gradients are taken: the oracle's results, contracted with the cotangents."""
    y, final = run_mixer(mixer, at.arrays, at.states)
    return float(np.sum(y * at.dy) + sum(np.sum(final[n] * d) for n, d in at.dfinal.items()))


def moved(at: Point, key: str, direction: np.ndarray, step: float) -> Point:
    """The point with one array moved; what is infinite stays."""
    if key in at.arrays:
        return replace(at, arrays={**at.arrays, key: at.arrays[key] + step * direction})
    name = key.removeprefix("state ")
    return replace(at, states={**at.states, name: at.states[name] + step * direction})


def slope(f: Callable[[float], float], step: float) -> float:
    """df/dx at 0: central differences at two steps, extrapolated, so that the error is of fourth order."""
    coarse = (f(step) - f(-step)) / (2 * step)
    fine = (f(step / 2) - f(-step / 2)) / step
    return (4 * fine - coarse) / 3


def shapes(at: Point) -> dict[str, tuple[int, ...]]:
    """The shape of every gradient by its key."""
    return {n: a.shape for n, a in at.arrays.items()} | {state_key(n): s.shape for n, s in at.states.items()}


def relative_errors(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], floor: float = 0.0
) -> dict[str, float]:
    """RMS errors, relative to the expected RMS, or to `floor` where that is smaller. NaN stays NaN.

    Without a floor, what should be zero must be.
    """
    assert set(found) == set(expected)
    errors = {}
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        scale = max(np.sqrt(np.mean(value.astype(np.float64) ** 2)), floor) or 1e-300
        errors[name] = float(np.sqrt(np.mean((found[name].astype(np.float64) - value) ** 2)) / scale)
    return errors
