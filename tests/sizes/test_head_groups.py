"""Inputs with fewer heads than the output give what the same heads repeated give, and the sum of their gradients."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

import smir
from tests.sizes.cases import CHUNK, error, mixer

HEADS = 4
# How many heads the inputs have, the first and the others: grouped keys and values, one head for all queries (shared B
# and C groups), one queries alone share.
GROUPS: Mapping[str, Callable[[int], int]] = {
    "grouped others": lambda i: HEADS if i == 0 else 2,
    "one head of others": lambda i: HEADS if i == 0 else 1,
    "one head of the first": lambda i: 1 if i == 0 else HEADS,
    "every number": lambda i: (HEADS, 2, 1)[i % 3],
}
MANY = [name for name in smir.library_names() if len(mixer(name).spec.inputs) > 1]


def check(name: str, group: str, form: str | None = None) -> None:
    spec = mixer(name).spec
    drawn = smir.sample(spec, B=2, T=2 * CHUNK + 1, H=HEADS, seed=3)
    counts = {d.name: GROUPS[group](i) for i, d in enumerate(spec.inputs)}
    given = {n: a[:, :, : counts[n]] if n in counts else a for n, a in drawn.items()}
    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in given.items()}
    repeated = {n: _repeated(t, counts.get(n)) for n, t in leaves.items()}
    run = mixer(name, form, CHUNK)
    (y, final), (expected, ends) = (run(**group, return_state=True) for group in (leaves, repeated))
    assert y.shape[2] == HEADS and error(y.detach(), expected.detach()) <= 1e-12
    for state in (s for s in final if final[s].shape == ends[s].shape):
        assert error(final[state].detach(), ends[state].detach()) <= 1e-12, state
    weights = torch.from_numpy(np.random.default_rng(5).standard_normal(tuple(y.shape)))
    found, truth = (torch.autograd.grad((r * weights).sum(), list(leaves.values())) for r in (y, expected))
    for n, own, other in zip(leaves, found, truth, strict=True):
        assert own.shape == leaves[n].shape and error(own, other) <= 1e-10, n


def _repeated(t: torch.Tensor, count: int | None) -> torch.Tensor:
    return t if count is None else t.repeat_interleave(HEADS // count, dim=2)


@pytest.mark.parametrize(("position", "name"), list(enumerate(MANY)))
def test_groups_are_repeated_heads(position: int, name: str) -> None:
    """One kind of group for each spec in turn, in the form that a call takes."""
    check(name, list(GROUPS)[position % len(GROUPS)])


@pytest.mark.full
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", MANY)
def test_all_groups_in_all_forms(name: str, group: str) -> None:
    for form in mixer(name).forms:
        check(name, group, form)
