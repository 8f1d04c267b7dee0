"""Convolution programs: a time-invariant mixer as causal convolutions between two pointwise mixers.

    y_t = output(inputs_t, r_t)        r_t = sum over its terms of sum over s <= t of kernel_{t-s} * driver_s

Each kernel is what the term's `response` gives to a unit impulse; each driver is a pointwise function of the inputs.
To a read is added what a response gives for the initial states and no input at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smir.ir.mixer import Mixer

CONVOLUTION = "convolution"


@dataclass(frozen=True)
class Term:
    """One convolution: `driver` computes the driving vector from inputs and parameters, without states; `response` has
    the input called `impulse` in its place, beside the parameters and the states. Each channel is on its own."""

    driver: Mixer
    response: Mixer
    impulse: str


@dataclass(frozen=True)
class ConvolvedRead:
    """A read of the output that is linear and time-invariant in what drives the states, and its name in the output."""

    name: str
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class ConvolutionProgram:
    """All convolved reads, and the output as a pointwise mixer that takes them as further inputs."""

    mixer: Mixer
    reads: tuple[ConvolvedRead, ...]
    output: Mixer

    def parts(self) -> Iterator[Mixer]:
        """Every mixer that the program is made of."""
        for read in self.reads:
            for term in read.terms:
                yield term.driver
                yield term.response
        yield self.output
