"""The numpy chunked form against a plain batched numpy step loop, in the same run, and its growth with T.

python -m benchmarks.step_vs_chunked
"""

import argparse

import numpy as np

import smir
from benchmarks.report import best_seconds, publish
from benchmarks.step_loops import LOOPS

HEADS, SIZE, REQUIRED = 16, 64, 4.0
LENGTHS = (1024, 2048, 4096)


def measure(name: str, T: int, heads: int = HEADS, size: int = SIZE) -> tuple[str, int, float, float, float, float]:
    """(mixer, T, loop ms, chunked ms, how many times faster, microseconds a token)."""
    mixer = smir.compile(name, form="chunked")
    arrays = smir.sample(mixer.spec, B=1, T=T, H=heads, sizes={"K": size, "V": size})
    call = {n: a.astype(np.float32) for n, a in arrays.items()}
    difference = np.abs(LOOPS[name](**call) - mixer(**call)).max()
    assert difference < 1e-3 * np.abs(mixer(**call)).max(), (
        f"{name}: the loop and the chunked form differ by {difference}"
    )
    loop = best_seconds(lambda: LOOPS[name](**call))
    chunked = best_seconds(lambda: mixer(**call))
    return name, T, 1e3 * loop, 1e3 * chunked, loop / chunked, 1e6 * chunked / T


def main(arguments: list[str] | None = None) -> list[tuple[str, int, float, float, float, float]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    lengths = parser.parse_args(arguments).lengths
    rows = [measure(name, T) for name in LOOPS for T in lengths]
    columns = ("mixer", "T", "step loop ms", "chunked ms", "times faster", "us per token")
    title = f"numpy float32, {HEADS} heads, K = V = {SIZE}; required {REQUIRED:g} times faster at T = 4096"
    publish("step_vs_chunked", title, columns, rows)
    return rows


if __name__ == "__main__":
    main()
