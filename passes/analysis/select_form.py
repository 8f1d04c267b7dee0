"""Choosing a form: the legal one whose symbolic cost is smallest at the call's sizes on the given machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from smir.ir.tile_program import QUADRATIC, SCAN, STEP
from smir.passes.analysis.cost import C, Cost, T, dimension

LONGEST = 1 << 20
# Of all pairs of tokens, the most that are worth one block: beyond, arrays of them would fill the memory.
LARGEST_BLOCK = 1024


@dataclass(frozen=True)
class Machine:
    """Rates that turn a cost into seconds.

    `materialises`: every operation writes its result to memory (numpy), otherwise kernels keep values on chip.
    `chunk`, in the scan form `scan_chunk`: tokens per chunk; the quadratic form uses blocks as large as it can where
    `whole_quadratic`.
    """

    name: str
    flops_per_second: float
    elements_per_second: float
    seconds_per_operation: float
    materialises: bool
    chunk: int = 64
    whole_quadratic: bool = False
    scan_chunk: int = 16

    def chunk_of(self, form: str, tokens: int) -> int:
        """Tokens per chunk that this machine uses for a form at this length."""
        if form == STEP:
            return 1
        if form == SCAN:
            return self.scan_chunk
        return min(tokens, LARGEST_BLOCK) if form == QUADRATIC and self.whole_quadratic else self.chunk

    def seconds(self, form: str, cost: Cost, tokens: int, sizes: Mapping[str, int], sequences: int = 1) -> float:
        """Predicted time of one call over `sequences` (batch x heads) of `tokens` each."""
        chunk = self.chunk_of(form, tokens)
        # a ragged last chunk costs as much as a whole one
        values = {T: -(-tokens // chunk) * chunk, C: chunk, **{dimension(n): s for n, s in sizes.items()}}
        moved = cost.materialised if self.materialises else cost.moved
        work, traffic, operations = (float(e.subs(values)) for e in (cost.flops, moved, cost.sequential))
        parallel = work / self.flops_per_second + traffic / self.elements_per_second
        once = self.seconds(SCAN, cost.once, tokens, sizes) if cost.once else 0.0
        return sequences * parallel + operations * self.seconds_per_operation + once


# Fitted with benchmarks/crossover.py on two cores of an x86-64 server, float32, numpy 2.4.
NUMPY = Machine("numpy", 4.0e10, 6.0e8, 6.0e-6, materialises=True, whole_quadratic=True, scan_chunk=64)
# Measured ceilings of one NVIDIA H200: 700e12 bf16 operations, 4.25e12 bytes a second; one launch each loop step.
GPU = Machine("gpu", 7.0e14, 2.1e12, 2.0e-7, materialises=False)
MACHINES = {m.name: m for m in (NUMPY, GPU)}


def select_form(
    costs: Mapping[str, Cost], machine: Machine, tokens: int, sizes: Mapping[str, int], sequences: int
) -> str:
    """The legal form with the smallest predicted time (ties: the first)."""
    return min(costs, key=lambda form: machine.seconds(form, costs[form], tokens, sizes, sequences))


@dataclass(frozen=True)
class Crossover:
    """From `tokens` on, `after` is predicted to be faster than `before`."""

    tokens: int
    before: str
    after: str


def crossovers(
    costs: Mapping[str, Cost], machine: Machine, sizes: Mapping[str, int], sequences: int
) -> tuple[Crossover, ...]:
    """The lengths T at which the fastest form changes, up to 2^20 tokens."""

    def best(tokens: int) -> str:
        return select_form(costs, machine, tokens, sizes, sequences)

    found, low = [], 1
    while low < LONGEST:
        high = low * 2
        if best(high) != best(low):
            found.append(_boundary(best, low, high))
        low = high
    return tuple(found)


def _boundary(best: Callable[[int], str], low: int, high: int) -> Crossover:
    before, after = best(low), best(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if best(middle) == before else (low, middle)
    return Crossover(high, before, after)
