"""Loads the golden vectors: every case as inputs, states, results and cotangents."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
_GROUPS = {"initial_state_": "initial", "final_state_": "final", "dfinal_state_": "dfinal"}


@dataclass(frozen=True)
class Case:
    """One run of one mixer. Arrays in the layout of a call; see README.md beside this file.

    `gradients` has the inputs' by their names and the initial states' as `initial_state_<name>`.
    """

    inputs: dict[str, np.ndarray]
    initial: dict[str, np.ndarray]
    y: np.ndarray
    final: dict[str, np.ndarray]
    dy: np.ndarray
    dfinal: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


def names() -> list[str]:
    """Every mixer that has vectors."""
    return sorted(path.stem for path in HERE.glob("*.npz"))


def cases(name: str) -> list[str]:
    """The case letters that a mixer has: `a`, maybe `b`, maybe `s`."""
    with np.load(HERE / f"{name}.npz") as arrays:
        return sorted({key.split("/")[0] for key in arrays.files})


def load(name: str, case: str) -> Case:
    """One case of one mixer. Raises KeyError when it doesn't have that case."""
    with np.load(HERE / f"{name}.npz") as archive:
        arrays = {key.split("/", 1)[1]: archive[key] for key in archive.files if key.startswith(f"{case}/")}
    groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in _GROUPS.values()}
    rest: dict[str, np.ndarray] = {}
    for key, value in arrays.items():
        prefix = next((p for p in _GROUPS if key.startswith(p)), None)
        if prefix:
            groups[_GROUPS[prefix]][key.removeprefix(prefix)] = value
        else:
            rest[key] = value
    y, dy = rest.pop("y"), rest.pop("dy")
    rest.pop("kernel", None)  # a convolution kernel that one mixer's file keeps beside its results
    groups["final"].pop("m", None)  # the running maximum of one file's own stabiliser: no state of a spec
    gradients = {k.removeprefix("d_"): v for k, v in rest.items() if k.startswith("d_")}
    inputs = {k: v for k, v in rest.items() if not k.startswith("d_")}
    return Case(inputs, groups["initial"], y, groups["final"], dy, groups["dfinal"], gradients)


def relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square of the difference over that of the expected values."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / np.sqrt(np.mean(expected**2)))
