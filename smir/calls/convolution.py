"""Running a mixer as convolutions: impulse responses from the compiled responses, applied by FFT along time.

Everything is composed of compiled mixers and the array library's own FFT, so gradients of torch tensors follow from
theirs. The kernels are computed once for a whole batch.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from smir.calls.array_kinds import NUMPY, convert, device_of, dtype_of, is_symbolic, kind_of, module_of, promote
from smir.ir.convolution import ConvolutionProgram, ConvolvedRead, Term
from smir.ir.mixer import Mixer
from smir.ir.tile_program import OUTPUT

Array = Any
Arrays = Mapping[str, Array]
# Calls a compiled part with arrays in canonical layout, and initial states; gives its output.
Call = Callable[[Mixer, Arrays, Arrays], Array]


@dataclass(frozen=True)
class Convolver:
    """Runs calls of one mixer in the convolution form, on arrays in canonical layout.

    `call` runs the parts, `sweep` the whole mixer in a form that knows its final states: they are computed when
    somebody looks at them.
    """

    program: ConvolutionProgram
    call: Call
    sweep: Callable[[Arrays, Arrays], Arrays]

    def __call__(self, arrays: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
        """y `[B, T, H, *dims]` in the type of the convolutions (float32 or float64), and the final states."""
        # an array that several parts read is widened once, so that what they add to its gradient is rounded once
        run = _Run(self.program, self.call, {name: _wide(x) for name, x in arrays.items()}, states)
        y = run.part(self.program.output, {r.name: run.read(r) for r in self.program.reads})
        return {OUTPUT: y}, _Final(lambda: self.sweep(arrays, states), [s.name for s in self.program.mixer.states])


class _Final(Mapping[str, Array]):
    """The final states, which cost another pass over the sequence: only if they are looked at."""

    def __init__(self, sweep: Callable[[], Arrays], names: list[str]) -> None:
        self.names, self.sweep = names, sweep
        self.found: Arrays | None = None

    def __getitem__(self, name: str) -> Array:
        if self.found is None:
            self.found = self.sweep()
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class _Run:
    program: ConvolutionProgram
    call: Call
    arrays: Arrays
    states: Arrays

    def part(self, mixer: Mixer, extra: Arrays, states: Arrays | None = None) -> Array:
        """A part's output, from the call's arrays and its own inputs."""
        known = {**self.arrays, **extra}
        return self.call(mixer, {d.name: known[d.name] for d in mixer.declarations}, states or {})

    def read(self, read: ConvolvedRead) -> Array:
        """The sum of all convolutions, and what the initial states give alone."""
        driven = [(term, self._driver(term.driver)) for term in read.terms]
        total = sum(_causal_convolution(self._kernel(term, d), _wide(d)) for term, d in driven)
        term, driver = driven[0]
        states = {s.name: self.states[s.name] for s in term.response.states if s.name in self.states}
        if not states:
            return total
        return total + self.part(term.response, {term.impulse: module_of(driver).zeros_like(_wide(driver))}, states)

    def _driver(self, mixer: Mixer) -> Array:
        """What drives the states `[B, T, H, *dims]`; an input itself isn't copied."""
        leaf = mixer.output
        return self.arrays[leaf["name"]] if leaf.op == "input" and not leaf["offset"] else self.part(mixer, {})

    def _kernel(self, term: Term, driver: Array) -> Array:
        """The response to a one at the first token, in all channels: `[1, T, H, *dims]`."""
        impulse = module_of(driver).zeros_like(_wide(driver[:1]))
        impulse[:, 0] = 1.0
        return self.part(term.response, {term.impulse: impulse})


def _causal_convolution(kernel: Array, driver: Array) -> Array:
    """`y_t = sum over s <= t of kernel_{t-s} driver_s` along axis 1; both arrays broadcast along the others."""
    tokens = driver.shape[1]
    if kernel.ndim > driver.ndim:
        driver = driver[..., None]
    # linear, not circular: at least 2 T - 1 points, rounded up to a length that FFTs like
    points = _fast_length(2 * tokens - 1)
    fft = module_of(kernel).fft
    spectrum = fft.rfft(kernel, points, 1) * fft.rfft(driver, points, 1)
    return fft.irfft(spectrum, points, 1)[:, :tokens]


def _fast_length(least: int) -> int:
    """The smallest 2^a or 3 * 2^a that is not smaller; an even number in a traced call of any length."""
    if is_symbolic(least):
        return least + 1
    power = 1 << (least - 1).bit_length()
    return 3 * power // 4 if 3 * power // 4 >= least else power


def _wide(array: Array) -> Array:
    """The array in float32, or in float64 if it is."""
    return convert(array, kind_of(array) or NUMPY, promote((dtype_of(array), "float32")), device_of(array))
