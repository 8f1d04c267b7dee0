"""Which library specs stand for their class where a whole library takes minutes; full runs take every spec."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

import smir

# One spec for each class that kernels differ by.
REPRESENTATIVES = frozenset(
    # identity, scalar, diagonal over K and over both, low rank, all of them, two kinds of erase
    "linear_attention scalar_decay gla dfw delta_rule kda rwkv7 "
    # two directions with a normaliser, several states, stages, parameters' sums, rotations, stabilised gates
    "lion_s_norm gsa rwkv6 mamba3 mlstm "
    # scans: a vector, lanes of a matrix, complex pairs, logarithms; recurrences that only go token by token
    "hgrn mamba1 s4d rwkv4 gru "
    # sums over pairs: softmax of scores, of a band, with decays, of channels
    "softmax_causal softmax_window8 forgetting_attention aft_full".split()
)


@cache
def forms(spec: str) -> tuple[str, ...]:
    """The forms of a spec that have kernels."""
    return tuple(smir.compile(spec).compilation.plans)


def marked(cases: Iterable[tuple[str, str]]) -> list[Any]:
    """Names and forms; all but those of a representative, in the forms that take many tokens at once, are full runs.

    The step form of a spec that has others is a representative's for three of them.
    """
    return [case if _stands_for_others(*case) else pytest.param(*case, marks=pytest.mark.full) for case in cases]


def _stands_for_others(name: str, form: str) -> bool:
    by_token = form == "step" and len(forms(name)) > 1 and name not in ("gla", "kda", "mamba1")
    return name in REPRESENTATIVES and not by_token


LIBRARY = [(name, form) for name in smir.library_names() for form in forms(name)]
