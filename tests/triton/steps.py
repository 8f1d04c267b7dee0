"""Steps in a process where kernels run: compared with the numpy backend, and counted. Results are plain numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import smir

Arrays = dict[str, Any]
PROMPT, TOKENS = 5, 9


@dataclass(frozen=True)
class Decoded:
    """Errors relative to the RMS of what is expected; `same`: the bits in place are those apart; `launches` a step."""

    y: float
    states: float
    several: float
    short: float
    same: bool
    launches: int
    in_place: int


def decode(name: str, text: str = "") -> Decoded:
    """A prompt on numpy, tokens on Triton kernels, with the states apart and in place, in float32 and 16 bits."""
    import torch

    with_numpy, with_triton = smir.compile(text or name, backend="numpy"), smir.compile(text or name, backend="triton")
    sizes = dict.fromkeys(with_numpy.reference_sizes, 16)
    sample = smir.sample(with_numpy.spec, B=2, T=TOKENS, H=2, sizes=sizes)
    arrays = {n: torch.tensor(a, dtype=torch.float32) for n, a in sample.items()}
    inputs = {d.name for d in with_numpy.spec.inputs}

    def cut(take: Any) -> Arrays:
        return {n: take(a) if n in inputs else a for n, a in arrays.items()}

    y, final = with_numpy(**arrays, return_state=True)
    _, prompt = with_numpy(**cut(lambda a: a[:, :PROMPT]), return_state=True)
    state, own, found, same, counts = prompt, _copies(prompt), [], True, [0, 0]
    for t in range(PROMPT, TOKENS):
        token = cut(lambda a, t=t: a[:, t])
        with counted(counts, 0):
            step, state = with_triton.step(**token, state=state)
        with counted(counts, 1):
            again, own = with_triton.step(**token, state=own, inplace=True)
        same &= torch.equal(step, again) and all(torch.equal(state[n], own[n]) for n in state)
        found.append(step)
    several, _ = with_triton.step(**cut(lambda a: a[:, PROMPT:]), state=prompt, several=True)
    short = {n: a if n.endswith("_log") else a.bfloat16() for n, a in prompt.items()}
    one, after = with_triton.step(**cut(lambda a: a[:, PROMPT]), state=short)
    expected, _ = with_numpy.step(**cut(lambda a: a[:, PROMPT]), state=short)
    same &= all(after[n].dtype == a.dtype for n, a in short.items())
    steps = TOKENS - PROMPT
    return Decoded(
        y=_error(torch.stack(found, 1), y[:, PROMPT:]),
        states=max(_error(state[n], final[n]) for n in final),
        several=_error(several, y[:, PROMPT:]),
        short=_error(one, expected),
        same=same,
        launches=counts[0] // steps,
        in_place=counts[1] // steps,
    )


class counted:
    """Counts the kernels that the interpreter runs."""

    def __init__(self, counts: list[int], index: int) -> None:
        self.counts, self.index = counts, index

    def __enter__(self) -> None:
        from triton.runtime.interpreter import GridExecutor

        self.original = GridExecutor.__call__

        def call(executor: Any, *args: Any, **kwargs: Any) -> Any:
            self.counts[self.index] += 1
            return self.original(executor, *args, **kwargs)

        GridExecutor.__call__ = call

    def __exit__(self, *_: object) -> None:
        from triton.runtime.interpreter import GridExecutor

        GridExecutor.__call__ = self.original


def _copies(state: Arrays) -> Arrays:
    return {n: a.clone() for n, a in state.items()}


def _error(found: Any, expected: Any) -> float:
    a, b = np.asarray(found.double()), np.asarray(expected.double())
    return float(np.sqrt(np.mean((a - b) ** 2)) / (np.sqrt(np.mean(b**2)) or 1.0))
