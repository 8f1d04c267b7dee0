"""Makes the vectors with exact resets: `python -m tests.golden.resets.make_vectors`.

Results are the oracle's, in float64. Inputs are multiples of 1/64, so that the files stay small.
"""

import numpy as np

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.calls.binding import bind
from smir.frontends import parse_mixer
from smir.ir.mixer import INPUT, Declaration, Mixer
from smir.library import load as load_spec
from smir.sampling import sample, sample_states
from tests.golden.resets.vectors import HERE, PLACES

TOKENS, HEADS, SIZES = 37, 2, {"K": 4, "V": 3}
# The gates of every row that has some: log-decays become -inf, decays 0.
GATES = {
    "retnet": ["gamma"], "mamba2_ssd": ["A"], "gated_rfa": ["g"], "gated_rfa_unnorm": ["g"], "scalar_decay": ["g"],
    "gla": ["g"], "hgrn2": ["g"], "rwkv6": ["w"], "dfw": ["ga", "gb"], "gated_delta_rule": ["g"], "kda": ["g"],
    "dplr": ["g"], "rwkv7": ["w"], "lion_s": ["g"], "lion_s_norm": ["g"], "lion_s_repo": ["g"],
    "lion_s_repo_norm": ["g"], "bidir_half": ["gf", "gb"],
}  # fmt: skip


def places(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Which gates are resets, `[len(PLACES), T, H, *dims]`, for a gate of shape `[T, H, *dims]`."""
    masks = np.zeros((len(PLACES), *shape), bool)
    scattered, tokens, head, channel, edges, everywhere, first, last = masks
    scattered[:] = rng.random(shape) < 0.2
    tokens[rng.random(TOKENS) < 0.15] = True
    head[:, 1] = True
    if len(shape) > 2:
        channel[..., rng.integers(shape[-1])] = True
    else:  # a gate without channels: resets of one head at a time
        channel[np.arange(TOKENS), rng.integers(HEADS, size=TOKENS)] = rng.random(TOKENS) < 0.4
    for chunk in (5, 16):
        edges[::chunk], edges[chunk - 1 :: chunk] = True, True
    everywhere[:] = True
    first[0], last[-1] = True, True
    return masks


def with_resets(gate: np.ndarray, declared: Declaration, rng: np.random.Generator) -> np.ndarray:
    """The gate with exact resets: a parameter has them in its second head."""
    reset = -np.inf if declared.range.lo == -np.inf else 0.0
    if declared.kind == INPUT:
        return np.where(places(gate.shape[1:], rng), reset, gate)
    return np.where(np.arange(HEADS) == 1, reset, gate)


def vectors(mixer: Mixer, gates: list[str], seed: int) -> dict[str, np.ndarray]:
    """All arrays of one row by key."""
    rng = np.random.default_rng(seed)
    drawn = sample(mixer, len(PLACES), TOKENS, HEADS, SIZES, seed)
    inputs = {n: np.where(a > 0, np.ceil(a * 64), np.floor(a * 64)) / 64 for n, a in drawn.items()}
    inputs = {n: np.clip(a, mixer.declaration(n).range.lo, mixer.declaration(n).range.hi) for n, a in inputs.items()}
    inputs |= {n: with_resets(inputs[n], mixer.declaration(n), rng) for n in gates}
    initial = sample_states(mixer, len(PLACES), HEADS, SIZES, seed + 1)
    bound = bind(mixer, (), inputs, initial or None, check_ranges=True)
    y, final = run_mixer(mixer, bound.arrays, bound.states)
    results = {"y": y, **{s.name: final[s.name] for s in mixer.states}}
    groups = {"input": inputs, "initial": initial, "result": results}
    return {f"{group}/{name}": a for group, arrays in groups.items() for name, a in arrays.items()}


def main() -> None:
    """Writes one file for each row."""
    for seed, (name, gates) in enumerate(GATES.items()):
        arrays = vectors(parse_mixer(load_spec(name)), gates, seed)
        np.savez_compressed(HERE / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
