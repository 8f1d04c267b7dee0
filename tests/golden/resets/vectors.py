"""Loads the vectors with exact resets: one sequence of the batch for each place in `PLACES`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
# Where the resets are; sequence i of every array of a file is the i-th of these.
PLACES = ("scattered", "tokens", "head", "channel", "chunk edges", "everywhere", "first token", "last token")


@dataclass(frozen=True)
class Resets:
    """One row's vectors: arguments and initial states by name, and the results, `y` and the final states by name."""

    inputs: dict[str, np.ndarray]
    initial: dict[str, np.ndarray]
    results: dict[str, np.ndarray]


def names() -> list[str]:
    """Every row that has such vectors."""
    return sorted(path.stem for path in HERE.glob("*.npz"))


def load(name: str) -> Resets:
    """The vectors of one row."""
    groups: dict[str, dict[str, np.ndarray]] = {"input": {}, "initial": {}, "result": {}}
    with np.load(HERE / f"{name}.npz") as archive:
        for key in archive.files:
            group, array = key.split("/")
            groups[group][array] = archive[key]
    return Resets(groups["input"], groups["initial"], groups["result"])
