"""Calls: what fits, in any kind and layout, and one clear error for everything that doesn't."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from smir.calls.binding import bind
from smir.errors import ArgumentError, RangeError
from smir.ir.dims import ONE, TIME, Dim
from smir.ir.expr import const, input_at, pointwise, state_at
from smir.ir.interval import Interval
from smir.ir.mixer import INPUT, PARAM, Declaration, Mixer, State

K, V, HALF, TWICE = Dim.name("K"), Dim.name("V"), Dim.parse("K/2"), Dim.parse("2*V")


def spec(*extra: Declaration, states: tuple[State, ...] | None = None) -> Mixer:
    declared = (
        Declaration(INPUT, "q", (K,)),
        Declaration(INPUT, "v", (V,)),
        Declaration(INPUT, "g", (), Interval(-np.inf, 0.0)),
        Declaration(PARAM, "gamma", (), Interval(0.0, 1.0, True, True)),
        *extra,
    )
    state = State("S", (K, V), 0.0, state_at("S", K, V, -1))
    return Mixer("demo", declared, (state,) if states is None else states, input_at("v", V), (V,))


def call(heads: bool = True, **change):
    h = (2,) if heads else ()
    arrays = {
        "q": np.ones((3, 5, *h, 4)),
        "v": np.ones((3, 5, *h, 6)),
        "g": -np.ones((3, 5, *h)),
        "gamma": np.full(h, 0.5),
    }
    return arrays | change


def test_positions_and_names_give_the_same() -> None:
    arrays = call()
    by_position = bind(spec(), tuple(arrays.values()), {})
    by_name = bind(spec(), (), dict(reversed(arrays.items())))
    mixed = bind(spec(), (arrays["q"],), {n: arrays[n] for n in ("gamma", "g", "v")})
    for bound in (by_position, by_name, mixed):
        assert list(bound.arrays) == ["q", "v", "g", "gamma"]
        assert all(bound.arrays[n] is arrays[n] for n in arrays)
    assert (mixed.batch, mixed.tokens, mixed.heads, mixed.sizes) == (3, 5, 2, {"T": 5, "K": 4, "V": 6})


def test_without_a_head_axis() -> None:
    bound = bind(spec(), (), call(heads=False), {"S": np.ones((3, 4, 6))})
    assert [bound.arrays[n].shape for n in bound.arrays] == [(3, 5, 1, 4), (3, 5, 1, 6), (3, 5, 1), (1,)]
    assert bound.states["S"].shape == (3, 1, 4, 6)
    y, final = bound.restore(np.zeros((3, 5, 1, 6)), {"S": np.zeros((3, 1, 4, 6))})
    assert (y.shape, final["S"].shape) == ((3, 5, 6), (3, 4, 6))


def test_a_number_may_stand_for_a_scalar_parameter_of_a_call_without_heads() -> None:
    assert bind(spec(), (), call(heads=False, gamma=0.25)).arrays["gamma"].tolist() == [0.25]


def test_arithmetic_on_dimensions_is_solved() -> None:
    mixer = spec(Declaration(INPUT, "theta", (HALF,)), Declaration(PARAM, "W", (TWICE, TIME)))
    more = {"theta": np.ones((3, 5, 2, 2)), "W": np.ones((2, 12, 5))}
    assert bind(mixer, (), call() | more).sizes == {"T": 5, "K": 4, "V": 6}
    only_half = Mixer("half", (Declaration(INPUT, "theta", (HALF,)),), (), input_at("theta", HALF), (HALF,))
    assert bind(only_half, (np.ones((1, 2, 1, 3)),), {}).sizes["K"] == 6


def test_torch_tensors_come_back_as_torch_tensors() -> None:
    arrays = {n: torch.from_numpy(a).to(torch.bfloat16 if n in "qv" else torch.float32) for n, a in call().items()}
    bound = bind(spec(), (), arrays, {"S": torch.zeros(3, 2, 4, 6)})
    assert (bound.kind, bound.dtype, bound.state_dtype, bound.device) == ("torch", "bfloat16", "float32", "cpu")
    plain, states = bound.numpy()
    assert plain["q"].dtype == np.float32 and states["S"].shape == (3, 2, 4, 6)
    y, final = bound.restore(np.full((3, 5, 2, 6), 1.5), {"S": np.ones((3, 2, 4, 6))})
    assert (y.dtype, final["S"].dtype) == (torch.bfloat16, torch.float32)
    assert bool((y == 1.5).all())
    y, _ = bound.restore(torch.ones(3, 5, 2, 6, dtype=torch.bfloat16), {})
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize(("dtype", "out"), [("float16", "float16"), ("float32", "float32"), ("float64", "float64")])
def test_float_types_are_kept(dtype: str, out: str) -> None:
    bound = bind(spec(), (), {n: a.astype(dtype) for n, a in call().items()})
    y, final = bound.restore(np.zeros((3, 5, 2, 6)), {"S": np.zeros((3, 2, 4, 6))})
    assert (y.dtype, final["S"].dtype) == (out, "float32" if dtype == "float16" else out)


def test_non_contiguous_arrays_are_fine() -> None:
    q = np.ones((4, 2, 5, 3)).T
    assert bind(spec(), (), call(q=q)).arrays["q"].shape == (3, 5, 2, 4)


def test_what_autograd_records_is_known_and_stays_connected() -> None:
    arrays = {n: torch.from_numpy(a) for n, a in call().items()}
    arrays["v"].requires_grad_()
    bound = bind(spec(), (), arrays)
    assert bound.recorded == {"v"}
    assert bound.arrays["v"].requires_grad and not bound.arrays["q"].requires_grad
    with torch.no_grad():
        assert not bind(spec(), (), arrays).recorded


def without(name: str) -> dict[str, np.ndarray]:
    return {n: a for n, a in call().items() if n != name}


BAD = {
    "missing": (without("g"), {}, "missing argument g"),
    "unknown": (call(gama=np.ones(2)), {}, "no argument 'gama'.*did you mean gamma"),
    "rank": (call(q=np.ones((3, 5))), {}, r"argument q has shape \(3, 5\), expected \[B, T, H, K\]"),
    "mixed heads": (call(v=np.ones((3, 5, 6))), {}, r"v has shape \(3, 5, 6\), .*\[B, T, H, V\]: q has a head axis"),
    "param without heads": (call(gamma=np.float64(0.5)), {}, r"argument gamma .*expected \[H\]"),
    "batch": (call(v=np.ones((2, 5, 2, 6))), {}, r"argument v .*= \(3, 5, 2, 6\).*B is 3 in argument q"),
    "time": (call(g=np.ones((3, 4, 2))), {}, r"argument g has shape \(3, 4, 2\), expected \[B, T, H\] = \(3, 5, 2\)"),
    "heads": (call(v=np.ones((3, 5, 3, 6))), {}, "argument q has 2 heads and v 3.*must divide 3"),
    "head groups": (call(q=np.ones((3, 5, 4, 4))), {}, r"argument gamma has shape \(2\), .*H is 4 in argument q"),
    "param heads": (call(gamma=np.ones(3)), {}, r"argument gamma has shape \(3\), expected \[H\] = \(2\)"),
    "empty time": (call(q=np.ones((3, 0, 2, 4))), {}, r"shape \(3, 0, 2, 4\), which is empty"),
    "empty batch": (call(g=np.ones((0, 5, 2))), {}, r"argument g .*empty"),
    "integers": (call(q=np.ones((3, 5, 2, 4), int)), {}, "argument q holds int64"),
    "booleans": (call(q=np.ones((3, 5, 2, 4), bool)), {}, "argument q holds bool"),
    "complex": (call(v=np.ones((3, 5, 2, 6), complex)), {}, "argument v holds complex128"),
    "objects": (call(g=np.ones((3, 5, 2), object)), {}, "argument g holds object"),
    "number": (call(g=-1.0), {}, r"argument g is the number -1.0, expected an array \[B, T, H\].*np.full"),
    "list": (call(g=[[[-1.0]]]), {}, "argument g is a list"),
    "none": (call(q=None), {}, "argument q is a NoneType"),
    "kinds": (call(v=torch.ones(3, 5, 2, 6)), {}, "q is a numpy array and v a torch one"),
    "state name": (call(), {"s": np.ones((3, 2, 4, 6))}, "no state 's'"),
    "state shape": (call(), {"S": np.ones((3, 2, 6, 4))}, r"S has shape .* \[B, H, K, V\] = \(3, 2, 4, 6\)"),
    "state rank": (call(), {"S": np.ones((3, 4, 6))}, r"state S .*expected \[B, H, K, V\]"),
    "state type": (call(), {"S": np.ones((3, 2, 4, 6), int)}, "state S holds int64"),
    "state number": (call(), {"S": 0.0}, "state S is the number 0.0"),
    "state kind": (call(), {"S": torch.ones(3, 2, 4, 6)}, "q is a numpy array and state S a torch one"),
    "states as an array": (call(), np.ones((3, 2, 4, 6)), "state is a ndarray, expected a dictionary"),
}  # fmt: skip


@pytest.mark.parametrize(("named", "state", "message"), BAD.values(), ids=BAD)
def test_one_error_for_what_does_not_fit(named, state, message) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){message}"):
        bind(spec(), (), named, state)


def test_too_many_and_doubled_arguments() -> None:
    arrays = tuple(call().values())
    with pytest.raises(ArgumentError, match=r"5 arguments by position, where demo\(q, v, g, gamma\) has 4"):
        bind(spec(), (*arrays, arrays[0]), {})
    with pytest.raises(ArgumentError, match="argument q is given twice"):
        bind(spec(), arrays, {"q": arrays[0]})


@pytest.mark.parametrize(
    ("extra", "shape", "message"),
    [
        (
            Declaration(INPUT, "x", (K,)),
            (3, 5, 2, 7),
            r"expected \[B, T, H, K\] = \(3, 5, 2, 4\).*K is 4 in argument q",
        ),
        (Declaration(INPUT, "x", (HALF,)), (3, 5, 2, 3), r"\[B, T, H, K/2\] = \(3, 5, 2, 2\)"),
        (Declaration(INPUT, "x", (TWICE,)), (3, 5, 2, 5), r"\[B, T, H, 2\*V\] = \(3, 5, 2, 12\)"),
        (Declaration(INPUT, "x", (Dim.parse("2*M"),)), (3, 5, 2, 5), r"makes 2\*M equal to 5"),
        (Declaration(INPUT, "x", (Dim.number(16),)), (3, 5, 2, 8), r"\[B, T, H, 16\] = \(3, 5, 2, 16\)"),
        (Declaration(PARAM, "x", (TIME, TIME)), (2, 5, 6), r"\[H, T, T\] = \(2, 5, 5\)"),
    ],
)
def test_dimensions_that_disagree(extra, shape, message) -> None:
    with pytest.raises(ArgumentError, match=f"(?s)argument x has shape.*{message}"):
        bind(spec(extra), (), call(x=np.ones(shape)))


def test_dimensions_that_make_no_whole_number_or_that_nothing_fixes() -> None:
    thirds = Declaration(INPUT, "x", (Dim.parse("K/3"),))
    with pytest.raises(ArgumentError, match=r"dimension K/3 must be a positive whole number(?s:.*)K = 4 in argument q"):
        bind(spec(thirds), (), call(x=np.ones((3, 5, 2, 1))))
    loose = State("S", (Dim.name("M"),), 0.0, const(0.0))
    with pytest.raises(ArgumentError, match="no argument of demo says how large M is"):
        bind(spec(states=(loose,)), (), call())


def test_no_inputs_no_sequence() -> None:
    mixer = Mixer("still", (Declaration(PARAM, "u", ()),), (), pointwise("neg", const(1.0)), ())
    with pytest.raises(ArgumentError, match="has no inputs"):
        bind(mixer, (np.ones(2),), {})
    assert Dim.number(1) == ONE


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (np.nan, "nan")])
def test_values_outside_a_promised_range(value: float, shown: str) -> None:
    arrays = call()
    arrays["g"][1, 2, 0] = arrays["g"][2, 0, 1] = value
    bind(spec(), (), arrays)
    with pytest.raises(RangeError, match=rf"g\[1, 2, 0\] is {shown}, outside of \[-inf, 0\]"):
        bind(spec(), (), arrays, check_ranges=True)
    tensors = {n: torch.from_numpy(a) for n, a in arrays.items()}
    with pytest.raises(RangeError, match=r"g\[1, 2, 0\]"):
        bind(spec(), (), tensors, check_ranges=True)


def test_range_ends_and_unbounded_values() -> None:
    bind(spec(), (), call(g=np.full((3, 5, 2), -np.inf)), check_ranges=True)
    with pytest.raises(RangeError, match=r"gamma\[0\] is 1.0, outside of \(0, 1\)"):
        bind(spec(), (), call(gamma=np.ones(2)), check_ranges=True)
    with pytest.raises(RangeError, match=r"gamma is 1.0"):
        bind(spec(), (), call(heads=False, gamma=1.0), check_ranges=True)
    with pytest.raises(RangeError, match=r"q\[0, 0, 0, 0\] is nan"):
        bind(spec(), (), call(q=np.full((3, 5, 2, 4), np.nan)), check_ranges=True)


def test_binding_numpy_arrays_never_imports_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from smir.calls.binding import bind\n"
        "from smir.ir.dims import Dim\n"
        "from smir.ir.expr import input_at\n"
        "from smir.ir.mixer import Declaration, Mixer\n"
        "K = Dim.name('K')\n"
        "m = Mixer('m', (Declaration('input', 'x', (K,)),), (), input_at('x', K), (K,))\n"
        "b = bind(m, (np.ones((1, 2, 3)),), {}, check_ranges=True)\n"
        "assert b.output(b.arrays['x']).shape == (1, 2, 3)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
