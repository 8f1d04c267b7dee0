"""Packed sequences on the CPU: `cu_seqlens` against a loop over the sequences, and what is refused."""

import itertools

import numpy as np
import pytest

import smir
from smir.calls.binding import fit_call
from smir.calls.prepared import PreparedCall

torch = pytest.importorskip("torch")

# A length of one, one that is no multiple of a chunk, two equal ones, an empty sequence; the spec's chunks are of 8.
LENGTHS = (3, 0, 19, 1, 8, 19)
BOUNDS = np.concatenate([[0], np.cumsum(LENGTHS)])
CHUNK = 8
# A class each: decays, erases, two directions, stages, stabilised gates, scans, convolutions, softmax, step by step.
CLASSES = frozenset("scalar_decay gated_delta_rule lion_s mlstm hgrn softmax_window8 elman".split())
DENSE = ("aft_full", "aft_full_causal")
NAMES = [
    name if name in CLASSES else pytest.param(name, marks=pytest.mark.full)
    for name in smir.library_names()
    if name not in DENSE
]


def arguments(spec, T, kind=torch.float64):
    return {n: torch.from_numpy(np.asarray(a)).to(kind) for n, a in smir.sample(spec, B=1, T=T, H=2, seed=1).items()}


def called(mixer, arrays, states, **more):
    """Output and final states; those of a mixer that looks ahead, or keeps tokens, are none of packed sequences."""
    done = mixer.compilation
    if done.lookahead is not None or done.pair_segment is not None:
        return mixer(**arrays, **more), {}
    return mixer(**arrays, state=states, return_state=True, **more)


def initial_states(mixer, like):
    """A start for every state that a caller may give plain."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.rand(found.shape, generator=generator, dtype=torch.float64).requires_grad_()
        for name, found in like.items()
        if not name.endswith("_log")
    }


def loop(mixer, arrays, states):
    """The same by a call for each sequence; an empty one has no call."""
    inputs = {d.name for d in mixer.spec.inputs}
    outputs, finals = [], []
    for n, (first, last) in enumerate(itertools.pairwise(BOUNDS)):
        if first == last:
            continue
        part = {name: x[:, first:last] if name in inputs else x for name, x in arrays.items()}
        y, final = called(mixer, part, {name: s[n : n + 1] for name, s in states.items()})
        outputs.append(y)
        finals.append(final)
    return torch.cat(outputs, 1), {name: torch.cat([f[name] for f in finals]) for name in finals[0]}


def weighted(y, final):
    """A number that depends on every entry of the results in its own way."""
    total = 0.0
    for n, x in enumerate([y, *(final[name] for name in sorted(final))]):
        if x.requires_grad:
            weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(n), dtype=x.dtype)
            total = total + (x * weights).sum()
    return total


def assert_packed_is_loop(mixer, give_states):
    arrays = {n: a.requires_grad_() for n, a in arguments(mixer.spec, BOUNDS[-1]).items()}
    bounds = torch.from_numpy(BOUNDS)
    there = [n for n, length in enumerate(LENGTHS) if length]
    plain = called(mixer, arrays, {}, cu_seqlens=bounds)[1]
    states = initial_states(mixer, plain) if give_states else {}
    y, final = called(mixer, arrays, states, cu_seqlens=bounds)
    expected, expected_final = loop(mixer, arrays, states)
    assert final.keys() == expected_final.keys()
    pairs = [(y, expected), *((final[n][there], expected_final[n]) for n in final)]
    leaves = [*arrays.values(), *states.values()]
    found = torch.autograd.grad(weighted(y, {n: s[there] for n, s in final.items()}), leaves, allow_unused=True)
    truth = torch.autograd.grad(weighted(expected, expected_final), leaves, allow_unused=True)
    assert [g is None for g in found] == [g is None for g in truth]
    pairs += [(a, b) for a, b in zip(found, truth, strict=True) if b is not None]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12 * max(1.0, float(other.detach().abs().max())))
    return states, final


@pytest.mark.parametrize("name", NAMES)
def test_packed_is_a_loop_over_the_sequences(name):
    mixer = smir.compile(name)
    takes_states = all(s.initial == 0.0 for s in mixer.spec.states)
    assert_packed_is_loop(mixer, give_states=takes_states)


@pytest.mark.parametrize("form", ["step", "scan", "convolution"])
def test_forms_of_a_convolution(form):
    assert_packed_is_loop(smir.compile("s4d", form=form, chunk=CHUNK), give_states=False)


@pytest.mark.parametrize("form", ["step", "chunked", "quadratic"])
def test_forms_of_an_operator(form):
    assert_packed_is_loop(smir.compile("gla", form=form, chunk=CHUNK), give_states=True)


@pytest.mark.parametrize("name", ["scalar_decay", "mlstm"])
def test_an_empty_sequence_hands_its_state_on(name):
    mixer = smir.compile(name)
    arrays, bounds = arguments(mixer.spec, 5), torch.tensor([0, 2, 2, 5])
    plain = mixer(**arrays, cu_seqlens=bounds, return_state=True)[1]
    states = initial_states(mixer, plain)
    final = mixer(**arrays, cu_seqlens=bounds, state=states, return_state=True)[1]
    log = final.get("S_log")
    found = final["S"][1] if log is None else final["S"][1] * torch.exp(log[1]).reshape(*log[1].shape, 1, 1)
    torch.testing.assert_close(found, states["S"][1])


def test_numpy_arrays_without_heads():
    mixer = smir.compile("gla")
    arrays = smir.sample(mixer.spec, B=1, T=10, H=1, seed=1)
    flat = {n: a[:, :, 0] for n, a in arrays.items()}
    y, final = mixer(**flat, cu_seqlens=np.array([0, 4, 10], np.int32), return_state=True)
    first, state = mixer(**{n: a[:, :4] for n, a in flat.items()}, return_state=True)
    assert isinstance(y, np.ndarray) and y.shape == (1, 10, first.shape[-1])
    np.testing.assert_allclose(y[:, :4], first, rtol=0, atol=1e-12)
    np.testing.assert_allclose(final["S"][:1], state["S"], rtol=0, atol=1e-12)


def test_what_no_state_reaches_runs_as_written():
    text = "mixer cube\n  input x: D\n  state s: D\n  s[t] = s[t-1] * s[t-1] * 0.5 + x[t]\n  y[t] = s[t]\n"
    assert_packed_is_loop(smir.compile(text), give_states=True)


BAD = {
    "a list": ([0, 4, 10], "cu_seqlens is a list"),
    "floats": (np.array([0.0, 4.0, 10.0]), "holds float64, expected int32 or int64"),
    "a matrix": (np.array([[0, 4, 10]]), r"has shape \(1, 3\)"),
    "no sequence": (np.array([0]), r"has shape \(1,\)"),
    "a start after zero": (np.array([1, 4, 10]), "starts at 1"),
    "overlapping sequences": (
        np.array([0, 6, 4, 10]),
        r"not increasing: cu_seqlens\[1\] is 6 and cu_seqlens\[2\] is 4",
    ),
    "a short end": (np.array([0, 4, 9]), "ends at 9, and there are 10 tokens"),
    "a long end": (np.array([0, 4, 11]), "ends at 11, and there are 10 tokens"),
    "the other kind": (torch.tensor([0, 4, 10]), "cu_seqlens is a torch array"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_cu_seqlens(case):
    value, message = BAD[case]
    mixer = smir.compile("scalar_decay")
    arrays = smir.sample(mixer.spec, B=1, T=10, H=2, seed=1)
    with pytest.raises(smir.ArgumentError, match=message) as found:
        mixer(**arrays, cu_seqlens=value)
    assert found.value.hint


def test_bad_company():
    mixer, bounds = smir.compile("scalar_decay"), np.array([0, 4, 10])
    with pytest.raises(smir.ArgumentError, match="batch of 2"):
        mixer(**smir.sample(mixer.spec, B=2, T=10, H=2, seed=1), cu_seqlens=bounds)
    arrays = smir.sample(mixer.spec, B=1, T=10, H=2, seed=1)
    with pytest.raises(smir.ArgumentError, match=r"state S has shape \(1, 2, ") as found:
        mixer(**arrays, cu_seqlens=bounds, state={"S": np.zeros((1, 2, 4, 4))})
    assert found.value.hint == "B is 2 in argument cu_seqlens"
    dense = smir.compile("aft_full")
    with pytest.raises(smir.ArgumentError, match="whose size belongs to one length"):
        dense(**smir.sample(dense.spec, B=1, T=10, H=2, seed=1), cu_seqlens=bounds)


def test_a_spec_may_not_call_an_input_so():
    with pytest.raises(smir.SpecNameError, match="cu_seqlens"):
        smir.compile("mixer m\n  input cu_seqlens: D\n  y[t] = cu_seqlens[t]\n")


def test_another_number_of_sequences_needs_no_new_preparation(monkeypatch):
    mixer, prepared = smir.compile("gla", form="chunked", backend="triton"), []

    def prepare(given, states, cu_seqlens):
        prepared.append(len(cu_seqlens) - 1)
        fit = fit_call(mixer.spec, given, states, cu_seqlens)
        return PreparedCall(fit, lambda arrays, held: ({"y": arrays["v"]}, {}))

    monkeypatch.setattr(mixer.calls, "_prepare", prepare)
    arrays = arguments(mixer.spec, 10)
    for bounds in ([0, 4, 10], [0, 10], [0, 1, 2, 10]):
        mixer(**arrays, cu_seqlens=torch.tensor(bounds))
    assert prepared == [2]
    with pytest.raises(smir.ArgumentError, match=r"has shape \(1,\)"):
        mixer(**arrays, cu_seqlens=torch.tensor([0]))
