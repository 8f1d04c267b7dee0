"""How arrays lie in memory, of which types they are, and numbers that are none."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

import smir
from tests.sizes.cases import CHUNK, CLASSES, error, mixer

TOKENS = 2 * CHUNK + 1
# The same values at other places.
PLACES: Mapping[str, Callable[[Any], Any]] = {
    "axes turned around": lambda a: np.ascontiguousarray(a.T).T,
    "every second": lambda a: np.stack([a, np.full_like(a, np.nan)], -1)[..., 0],
    "backward": lambda a: a[::-1].copy()[::-1],
    "heads outermost": lambda a: np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2) if a.ndim > 2 else a,
    "off by one": lambda a: np.concatenate([a.ravel()[:1], a.ravel()])[1:].reshape(a.shape),
}

LIBRARY = [n if n in CLASSES else pytest.param(n, marks=pytest.mark.full) for n in smir.library_names()]


def arguments(name: str, B: int = 2, H: int = 2) -> dict[str, Any]:
    return smir.sample(mixer(name).spec, B=B, T=TOKENS, H=H, seed=2)


@pytest.mark.parametrize("name", smir.library_names())
def test_places_in_memory_make_no_difference(name: str) -> None:
    arrays = arguments(name)
    y, _ = mixer(name)(**arrays, return_state=True)
    for place, put in PLACES.items():
        placed = {n: put(a) for n, a in arrays.items()}
        assert any(not a.flags.c_contiguous for a in placed.values()) or place in ("off by one", "backward")
        assert error(mixer(name)(**placed), y) <= 1e-12, place
        assert all(np.array_equal(placed[n], a) for n, a in arrays.items()), f"{place}: an argument was written"


@pytest.mark.parametrize("name", LIBRARY)
def test_rows_that_share_their_memory(name: str) -> None:
    """Expanded tensors, strides of zero, with their gradients."""
    spec = mixer(name).spec
    inputs = {d.name for d in spec.inputs}
    rows = {n: torch.tensor(a, requires_grad=True) for n, a in arguments(name, B=1, H=1).items()}
    shared = {n: t.expand(3, -1, 2, *[-1] * (t.ndim - 3)) if n in inputs else t.expand(2, *[-1] * (t.ndim - 1))
              for n, t in rows.items()}  # fmt: skip
    found, truth = mixer(name)(**shared), mixer(name)(**{n: t.contiguous() for n, t in shared.items()})
    assert error(found.detach(), truth.detach()) <= 1e-12
    own, other = (torch.autograd.grad(y.square().sum(), list(rows.values())) for y in (found, truth))
    assert max(error(a, b) for a, b in zip(own, other, strict=True)) <= 1e-10


# ---- types ------------------------------------------------------------------------------------------------------

HALF, BRAIN, SINGLE, DOUBLE = "float16", "bfloat16", "float32", "float64"
# Types of the vector inputs in turn, that of all others, and the output's: what the vectors have in common.
MIXED = [((HALF,), HALF, HALF), ((BRAIN,), BRAIN, BRAIN), ((SINGLE,), SINGLE, SINGLE), ((BRAIN,), SINGLE, BRAIN),
         ((HALF,), SINGLE, HALF), ((HALF, BRAIN), SINGLE, SINGLE), ((SINGLE, BRAIN), HALF, SINGLE),
         ((DOUBLE, HALF), BRAIN, DOUBLE), ((SINGLE,), DOUBLE, SINGLE)]  # fmt: skip
# Rounding of the output, beside float32 arithmetic.
ROUNDING = {HALF: 2e-3, BRAIN: 1e-2, SINGLE: 2e-5, DOUBLE: 2e-5}


@pytest.mark.parametrize("name", CLASSES)
def test_mixed_types_give_the_type_of_the_vectors(name: str) -> None:
    spec = mixer(name).spec
    vectors = [d.name for d in spec.inputs if d.dims]
    for kinds, others, expected in MIXED if len(vectors) > 1 else MIXED[:5]:
        kind = {n: kinds[vectors.index(n) % len(kinds)] if n in vectors else others for n in arguments(name)}
        given = {n: torch.tensor(a).to(getattr(torch, kind[n])) for n, a in arguments(name).items()}
        y, final = mixer(name)(**given, return_state=True)
        assert str(y.dtype) == f"torch.{expected}", (kinds, others)
        truth = mixer(name)(**{n: t.double() for n, t in given.items()})
        assert error(y.float(), truth) <= ROUNDING[expected], (kinds, others)
        wide = DOUBLE if expected == DOUBLE else SINGLE
        assert all(str(s.dtype) == f"torch.{wide}" for n, s in final.items() if s.ndim and not n.endswith("_past"))


# ---- numbers that are none --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [np.nan, pytest.param(np.inf, marks=pytest.mark.full), pytest.param(-np.inf, marks=pytest.mark.full)]
)
@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_no_number_stays_in_its_row(name: str, bad: float) -> None:
    """Also where every input has it; a NaN is seen in its row's output."""
    arrays, inputs = arguments(name, B=3), {d.name for d in mixer(name).spec.inputs}
    for form in mixer(name).forms:
        run = mixer(name, form, CHUNK)
        whole = run(**arrays)
        for chosen in ([n] for n in sorted(inputs)) if not np.isnan(bad) else (sorted(inputs),):
            broken = {n: _with(a, bad) if n in chosen else a for n, a in arrays.items()}
            y = run(**broken)
            assert np.array_equal(y[[0, 2]], whole[[0, 2]]), (form, chosen)
            assert np.isnan(y[1]).any() or not np.isnan(bad), form


def _with(a: Any, bad: float) -> Any:
    found = a.copy()
    found[1, CHUNK + 1] = bad
    return found


# ---- memory that is full ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fails"),
    [("softmax_causal", "memory_like"), ("softmax_window8", "memory_like"), ("softmax_window8", "_own")],
)
def test_a_cache_that_can_not_grow_is_as_it_was(name: str, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step can be made again when there is memory."""
    from smir.states import token_cache

    arrays = smir.sample(mixer(name).spec, B=1, T=40, H=2, seed=2)
    state, last, failed = mixer(name).new_state(capacity=8), None, 0
    for t in range(40):
        one = {n: a[:, t] for n, a in arrays.items()}
        before = {n: np.array(a) for n, a in state.items()}
        if t:
            with monkeypatch.context() as patched:
                calls = iter(range(9))
                patched.setattr(token_cache, fails, _failing(token_cache, fails, calls))
                try:
                    last, _ = mixer(name).step(**one, state=state, inplace=True)
                    continue
                except MemoryError:
                    failed += 1
                    assert all(np.array_equal(state[n], a) for n, a in before.items())
        last, _ = mixer(name).step(**one, state=state, inplace=True)
    whole = mixer(name)(**arrays)
    assert failed and error(last, whole[:, -1]) <= 1e-10


def _failing(module: Any, name: str, calls: Any) -> Callable[..., Any]:
    """What runs out of memory when it is called for the second time."""
    own = getattr(module, name)

    def call(*args: Any) -> Any:
        if next(calls) == 1:
            raise MemoryError
        return own(*args)

    return call
