"""From which T the chunked form beats the quadratic one on numpy: predicted by the cost model, and measured.

python -m benchmarks.crossover
"""

import math

import numpy as np

import smir
from benchmarks.report import best_seconds, publish
from smir.ir.tile_program import CHUNKED, QUADRATIC
from smir.passes.analysis.cost import plan_cost
from smir.passes.analysis.select_form import NUMPY, crossovers

MIXERS = ("linear_attention", "scalar_decay", "gla", "delta_rule", "gated_delta_rule")
SIZES = (32, 64)
HEADS, SHORTEST, LONGEST = 4, 16, 1024


def predicted(name: str, size: int) -> int | None:
    """The T at which the cost model switches from quadratic to chunked."""
    plans = smir.compile(name).compilation.plans
    costs = {form: plan_cost(plans[form]) for form in (QUADRATIC, CHUNKED)}
    found = crossovers(costs, NUMPY, {"K": size, "V": size}, HEADS)
    return next((c.tokens for c in found if c.after == CHUNKED), None)


def ratio(name: str, T: int, size: int) -> float:
    """Time of the quadratic form over time of the chunked one."""
    arrays = smir.sample(smir.compile(name).spec, B=1, T=T, H=HEADS, sizes={"K": size, "V": size})
    call = {n: a.astype(np.float32) for n, a in arrays.items()}
    quadratic, chunked = (smir.compile(name, form=form) for form in (QUADRATIC, CHUNKED))
    return best_seconds(lambda: quadratic(**call), 7) / best_seconds(lambda: chunked(**call), 7)


def measured(name: str, size: int) -> int | None:
    """The T from which the chunked form stays the faster one, interpolated between powers of two."""
    lengths = [SHORTEST << i for i in range((LONGEST // SHORTEST).bit_length())]
    ratios = [ratio(name, T, size) for T in lengths]
    slower = [i for i, r in enumerate(ratios) if r < 1]
    if not slower:
        return SHORTEST
    last = slower[-1]
    if last == len(lengths) - 1:
        return None
    before, after = math.log(ratios[last]), math.log(ratios[last + 1])
    return round(lengths[last] * 2 ** (before / (before - after)))


def main() -> list[tuple[str, int, int | str, int | str]]:
    rows = []
    for name in MIXERS:
        for size in SIZES:
            rows.append((name, size, predicted(name, size) or "none", measured(name, size) or "none"))
    columns = ("mixer", "K = V", "predicted T", "measured T")
    publish("crossover", f"chunked overtakes quadratic on numpy, {HEADS} heads, float32", columns, rows)
    return rows


if __name__ == "__main__":
    main()
