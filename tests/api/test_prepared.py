"""Calls of a kind that a mixer has seen: nothing is decided again, and nothing is taken from an older call."""

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import smir
from smir.calls import execution, prepared
from smir.compiled import CompiledMixer
from smir.errors import ArgumentError, RangeError

SPEC = """mixer decayed
  input q, k: K
  input v: V
  input g: scalar in [-inf, 0]
  param gamma: scalar in (0, 1]
  state S: K, V
  state n: K
  S[t] = gamma * exp(g[t]) * S[t-1] + k[t] @ v[t].T
  n[t] = gamma * n[t-1] + k[t]
  y[t] = S[t].T @ q[t] + (n[t].T @ q[t]) * v[t]
"""
Arrays = dict[str, Any]


def arrays(seed: int = 0, T: int = 20, heads: bool = True, **sizes: int) -> Arrays:
    found = smir.sample(smir.compile(SPEC).spec, B=2, T=T, H=3 if heads else 1, seed=seed, sizes=sizes)
    return found if heads else {n: a[0] if n == "gamma" else a[:, :, 0] for n, a in found.items()}


def tensors(seed: int = 0, dtype: Any = torch.float64, recorded: tuple[str, ...] = (), **more: Any) -> Arrays:
    found = {n: torch.from_numpy(a).to(dtype) for n, a in arrays(seed, **more).items()}
    return {n: t.requires_grad_(n in recorded) for n, t in found.items()}


def states(kind: Callable[..., Any] = np.ones, names: str = "S n") -> Arrays:
    return {name: 0.5 * kind((2, 3, 8, 12) if name == "S" else (2, 3, 8)) for name in names.split()}


def strided(found: Arrays) -> Arrays:
    """The same values in another memory order, and every second element of a larger array."""
    wide = torch.stack([found["k"], found["k"]], -1).detach()[..., 0].requires_grad_(found["k"].requires_grad)
    turned = found["v"].detach().transpose(0, 3).contiguous().transpose(0, 3).requires_grad_(found["v"].requires_grad)
    return {**found, "k": wide, "v": turned}


ALL = ("q", "k", "v", "g", "gamma")
CALLS: dict[str, Callable[[], dict[str, Any]]] = {
    "numpy": arrays,
    "other values": lambda: arrays(seed=1),
    "longer": lambda: arrays(T=21),
    "another size": lambda: arrays(K=6),
    "no heads": lambda: arrays(heads=False),
    "a number": lambda: {**arrays(heads=False), "gamma": 0.25},
    "another number": lambda: {**arrays(heads=False), "gamma": 0.75},
    "single precision": lambda: {n: a.astype(np.float32) for n, a in arrays().items()},
    "one of single precision": lambda: {**arrays(), "g": arrays()["g"].astype(np.float32)},
    "another byte order": lambda: {**arrays(), "v": arrays()["v"].astype(">f8")},
    "states": lambda: {**arrays(), "state": states()},
    "one state": lambda: {**arrays(), "state": states(names="n")},
    "states the other way round": lambda: {**arrays(), "state": states(names="n S")},
    "tensors": tensors,
    "tensors elsewhere in memory": lambda: strided(tensors()),
    "short tensors": lambda: tensors(dtype=torch.bfloat16),
    "gradients": lambda: tensors(recorded=ALL),
    "gradients of other values": lambda: tensors(seed=1, recorded=ALL),
    "gradients elsewhere in memory": lambda: strided(tensors(recorded=ALL)),
    "gradients of one": lambda: tensors(recorded=("g",)),
    "gradients in single precision": lambda: tensors(dtype=torch.float32, recorded=ALL),
    "gradients with states": lambda: {**tensors(recorded=ALL), "state": states(torch.ones)},
    "a parameter of a module": lambda: {**tensors(), "gamma": torch.nn.Parameter(torch.full((3,), 0.5))},
}


def outcome(mixer: Any, call: dict[str, Any]) -> list[np.ndarray]:
    """y, the final states, and every gradient that was asked for."""
    y, final = mixer(**call, return_state=True)
    found = [y, *final.values()]
    recorded = [t for t in call.values() if isinstance(t, torch.Tensor) and t.requires_grad]
    if recorded:
        found += torch.autograd.grad(sum((f.double() ** 2).sum() for f in found), recorded)
    return [f if isinstance(f, np.ndarray) else f.detach().double().numpy() for f in found]


def fresh(mixer: CompiledMixer) -> CompiledMixer:
    """The same mixer as if it had never been called."""
    return CompiledMixer(mixer.compilation, "chunked", None, 16)


def test_no_call_sees_an_older_one() -> None:
    """Every kind of call, forwards and backwards through the list, against a mixer that has seen nothing."""
    mixer, names = smir.compile(SPEC, form="chunked", chunk=16), list(CALLS)
    expected = {name: outcome(fresh(mixer), CALLS[name]()) for name in names}
    for order in (names, names[::-1]):
        for name in order:
            for got, want in zip(outcome(mixer, CALLS[name]()), expected[name], strict=True):
                np.testing.assert_array_equal(got, want, err_msg=name, strict=True)


TWINS = """mixer twins
  input q, k: K
  input v: V
  state A, B: K, V
  A[t] = 0.5 * A[t-1] + k[t] @ v[t].T
  B[t] = 0.25 * B[t-1] - k[t] @ v[t].T
  y[t] = (A[t] * 2 + B[t]).T @ q[t]
"""


def test_states_of_one_shape_are_told_apart() -> None:
    mixer, given = smir.compile(TWINS), {n: torch.randn(1, 9, 1, 4) for n in "qkv"}
    for names in ("A", "B", "AB", "BA", "A"):
        start = {name: torch.randn(1, 1, 4, 4, requires_grad=True) for name in names}
        found, expected = (
            torch.autograd.grad(m(**given, state=start).sum(), list(start.values()))
            for m in (mixer, smir.compile(TWINS))
        )
        assert all(map(torch.equal, found, expected)), names


@pytest.fixture
def preparations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The name of every plan that is made ready."""
    seen: list[str] = []
    real = execution.BACKENDS["numpy"]

    def counting(plan: Any, *rest: Any) -> Any:
        seen.append(plan.name)
        return real.prepare(plan, *rest)

    monkeypatch.setitem(execution.BACKENDS, "numpy", replace(real, prepare=counting))
    yield seen


def test_the_second_training_step_prepares_nothing(preparations: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    mixer = smir.compile(SPEC)
    outcome(mixer, tensors(recorded=ALL))
    assert len(preparations) == 2
    for name in ("fit_call", "bound_to"):
        monkeypatch.setattr(f"smir.running.{name}", lambda *_: pytest.fail("a call was fitted again"))
    monkeypatch.setattr("smir.torch_side.autograd.training_plan", lambda *_: pytest.fail("a plan was made again"))
    outcome(mixer, strided(tensors(seed=3, recorded=ALL)))
    assert len(preparations) == 2


def test_what_is_recorded_is_decided_at_every_call(preparations: list[str]) -> None:
    mixer, given = smir.compile(SPEC), tensors(recorded=ALL)
    with torch.no_grad():
        assert not mixer(**given).requires_grad
    assert mixer(**given).requires_grad
    with torch.no_grad():
        assert not mixer(**given).requires_grad
    assert len(preparations) == 2


def test_no_array_is_kept_alive() -> None:
    mixer, given = smir.compile(SPEC), tensors(recorded=ALL)
    outcome(mixer, given)
    outcome(mixer, given)
    left = [weakref.ref(t) for t in given.values()]
    del given
    gc.collect()
    assert [ref() for ref in left] == [None] * len(left)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "LIMIT", 4)
    mixer = smir.compile(SPEC)
    for T in range(1, 12):
        assert mixer(**arrays(T=T)).shape[1] == T
        assert len(mixer.calls.prepared.known) <= 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(2, 20, 3, 9)}, "argument k has shape"),
        ({"k": torch.zeros(2, 20, 3, 8).to_sparse()}, "argument k is a tensor that is sparse"),
        ({"k": torch.zeros(2, 20, 3, 8, dtype=torch.int32)}, "argument k holds int32"),
        ({"k": np.zeros((2, 20, 3, 8))}, "k a numpy one"),
        ({"k": None}, "argument k is a NoneType"),
        ({"gamma": True}, "argument gamma is a bool"),
        ({"more": torch.zeros(1)}, "no argument 'more'"),
        ({"state": {"T": torch.zeros(1)}}, "no state 'T'"),
        ({"state": {"n": torch.zeros(2, 3, 9)}}, "state n has shape"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_every_time(change: dict[str, Any], message: str) -> None:
    mixer, good = smir.compile(SPEC), tensors()
    mixer(**good)
    for _ in range(2):
        with pytest.raises(ArgumentError, match=message):
            mixer(**{**good, **change})


def test_ranges_are_checked_at_every_call() -> None:
    mixer, good = smir.compile(SPEC), tensors()
    mixer(**good, check_ranges=True)
    with pytest.raises(RangeError, match="g\\[0, 0, 0\\]"):
        mixer(**{**good, "g": good["g"] + 9}, check_ranges=True)
