"""Inputs with fewer heads than the output give what the same heads repeated give, and the sum of their gradients."""

import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

import smir
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.verify_mixer import verify_mixer
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


DECLARED = """mixer declared
  input q: K
  input k: K heads H/2
  input v: V heads H/G
  input g: scalar heads H/G in [-inf, 0]
  input b: scalar heads 1 in [0, 1]
  state S: K, V
  S[t] = exp(g[t]) * S[t-1] + b[t] * (k[t] @ v[t].T)
  y[t] = S[t].T @ q[t]
"""
NOTHING_SAID = re.sub(r" heads \S+", "", DECLARED)


@pytest.mark.parametrize("form", ["step", "chunked"])
def test_declared_groups_are_repeated_heads(form: str) -> None:
    """Against a spec that says nothing, which is given the repeated heads."""
    own, other = (smir.compile(text, form=form, chunk=CHUNK) for text in (DECLARED, NOTHING_SAID))
    drawn = smir.sample(own.spec, B=2, T=2 * CHUNK + 1, H=HEADS, sizes={"G": 4}, seed=3)
    assert {n: a.shape[2] for n, a in drawn.items()} == {"q": 4, "k": 2, "v": 1, "g": 1, "b": 1}
    leaves = {n: torch.tensor(a, requires_grad=True) for n, a in drawn.items()}
    y, expected = own(**leaves), other(**{n: _repeated(t, t.shape[2]) for n, t in leaves.items()})
    assert error(y.detach(), expected.detach()) <= 1e-12
    found, truth = (torch.autograd.grad(r.square().sum(), list(leaves.values())) for r in (y, expected))
    for n, mine, theirs in zip(leaves, found, truth, strict=True):
        assert mine.shape == leaves[n].shape and error(mine, theirs) <= 1e-10, n


def test_declared_groups_are_verified_in_all_forms() -> None:
    report = smir.compile(DECLARED.replace("H/2", "H/3")).verify(gradients=True)
    assert report.passed and report.sizes["H"] == 3


WRONG = {
    "a number": ({"k": 4}, "argument k has 4 of 4 heads, and is declared `heads H/2`"),
    "one for all": ({"b": 2}, "argument b has 2 of 4 heads, and is declared `heads 1`"),
    "a name": ({"v": 1}, "argument g has 2 of 4 heads, .* and G is 4 in argument v"),
    "not in groups": ({"k": 3}, "argument k has 3 heads and q 4"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_heads_than_declared_are_refused(case: str) -> None:
    counts, message = WRONG[case]
    own = smir.compile(DECLARED)
    given = smir.sample(own.spec, H=HEADS)
    given |= {n: np.repeat(given[n][:, :, :1], count, 2) for n, count in counts.items()}
    with pytest.raises(smir.ArgumentError, match=message) as caught:
        own(**given)
    assert caught.value.hint


def test_heads_that_make_no_groups() -> None:
    own = smir.compile(DECLARED)
    with pytest.raises(smir.ArgumentError, match="3 heads, of which k has H/2"):
        smir.sample(own.spec, H=3)
    alone = {n: a[:, :, 0] for n, a in smir.sample(own.spec, H=2).items()}
    with pytest.raises(smir.ArgumentError, match="has 1 of 1 heads"):
        own(**alone)


def test_a_layer_projects_to_the_declared_heads() -> None:
    layer = smir.nn.Mixer(DECLARED, d_model=16, heads=4, sizes={"G": 4})
    found = layer.arguments(torch.randn(2, 5, 16))
    assert {n: a.shape[2] for n, a in found.items()} == {"q": 4, "k": 2, "v": 1, "g": 1, "b": 1}
    assert layer.vectors is not None and layer.vectors.weight.shape[0] == 4 * (4 + 2 + 1) and "G=4" in repr(layer)
    layer(torch.randn(2, 5, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
    with pytest.raises(smir.ArgumentError, match="3 heads, of which k has H/2"):
        smir.nn.Mixer(DECLARED, d_model=12, heads=3)


def test_the_mixers_text_keeps_its_groups() -> None:
    spec = smir.compile(DECLARED).spec
    assert parse_ir(print_ir(spec)) == spec and "input g : scalar group=G in [-inf, 0.0]" in print_ir(spec)
    for group in ("K/2", "K*V", "0", "1/2"):
        with pytest.raises(smir.IRError, match="a group of heads is a name or a whole number"):
            verify_mixer(parse_ir(print_ir(spec).replace("group=2", f"group={group}")))
    with pytest.raises(smir.IRError, match="only an input"):
        verify_mixer(
            parse_ir(
                print_ir(spec)
                .replace("input k : K", "param k : K")
                .replace('k = input() name="k" offset=0 : K x 1 @step', 'k = param() name="k" : K x 1 @const')
            )
        )
