"""Stabilisation changes no result, touches nothing else, and leaves no exponential that could overflow."""

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.compiler import compile_spec
from smir.frontends import parse_mixer
from smir.ir.graph import walk
from smir.ir.mixer import Mixer
from smir.ir.operator import Obstacle
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile_program import STEP
from smir.ir.verifier import verify
from smir.library import load as load_spec
from smir.passes.analysis.exponents import exponent_report
from smir.passes.forms.lower_step import lower_step
from smir.passes.gradients.adjoint_program import adjoint_program
from smir.passes.masks.masks_to_states import masks_to_states
from smir.passes.stabilisation.stabilise import stabilise
from smir.sampling import sample, sample_states
from smir.source import Source
from smir.states.scaled_states import ScaledStates

STABILISED = ("mlstm", "rwkv4", "aft_simple_causal")

FEATURES = """mixer features                     # the scale lies along the contracted axis
  input q, k: K; input v: V
  state S: K, V
  state z: K
  S[t] = S[t-1] + exp(k[t]) @ v[t].T
  z[t] = z[t-1] + exp(k[t])
  y[t] = S[t].T @ exp(q[t]) / (z[t].T @ exp(q[t]))
"""
BOTH_WAYS = """mixer both_ways
  input q, k: K; input v: V; input i: scalar; input g: scalar in [-inf, 0]
  state F, B: K, V
  state f, b: K
  F[t] = exp(g[t]) * F[t-1] + exp(i[t]) * k[t] @ v[t].T
  f[t] = exp(g[t]) * f[t-1] + exp(i[t]) * k[t]
  B[t] = exp(g[t+1]) * B[t+1] + exp(i[t]) * k[t] @ v[t].T
  b[t] = exp(g[t+1]) * b[t+1] + exp(i[t]) * k[t]
  y[t] = (F[t] + B[t]).T @ q[t] / max(abs((f[t] + b[t]).T @ q[t]), 1)
"""
WRITES = """mixer writes                         # two gates, numbers to start from, a root, a logarithm
  input x: D; input i, j: D; input g: D in [-inf, 0]
  state a: D = 2
  state b: D = 3
  a[t] = exp(g[t]) * a[t-1] + exp(i[t]) * x[t] - exp(j[t] - 1)
  b[t] = exp(g[t]) * b[t-1] + exp(i[t]) + exp(j[t] - 1)
  y[t] = where(x[t] < 0, a[t], max(a[t], 0)) / sqrt(b[t]**2 + 1) + log(b[t]) - log(b[t-1])
"""
PER_ROW = """mixer per_row                       # the scale lies along the axis that is kept
  input q, k: K; input v, i: V
  state S: V, K
  state n: V
  S[t] = 0.9 * S[t-1] + (exp(i[t]) * v[t]) @ k[t].T
  n[t] = 0.9 * n[t-1] + exp(i[t])
  y[t] = S[t] @ q[t] / n[t]
"""
SIGNED = """mixer signed                         # a decay that may be negative has no log: it stays with the mantissa
  input x: D; input i: D; param c: D in [-1, 1]
  state a, b: D
  a[t] = c * a[t-1] + exp(i[t]) * x[t]
  b[t] = b[t-1] + exp(i[t])
  y[t] = a[t] / b[t]
"""
PAIRS = """mixer pairs                           # one log for each pair of gate and decay
  input x: D; input i, j: D; input g: D in [-inf, 0]
  state a, b, c, d, e, f: D
  a[t] = exp(g[t]) * a[t-1] + exp(i[t]) * x[t];  b[t] = exp(g[t]) * b[t-1] + exp(i[t])
  c[t] = exp(g[t]) * c[t-1] + exp(j[t]) * x[t];  d[t] = exp(g[t]) * d[t-1] + exp(j[t])
  e[t] = 0.5 * e[t-1] + exp(i[t]) * x[t];  f[t] = 0.5 * f[t-1] + exp(i[t])
  y[t] = a[t] / b[t] + c[t] / d[t] - e[t] / f[t]
"""
MASKED = """mixer masked
  input q, k, v: D
  y = sigmoid(q) * (causal @ (exp(k) * v)) / (causal @ exp(k))
"""
TEXTS = {"features": FEATURES, "both_ways": BOTH_WAYS, "writes": WRITES, "per_row": PER_ROW, "signed": SIGNED,
         "pairs": PAIRS, "masked": MASKED}  # fmt: skip
RUNS = [*STABILISED, *TEXTS]


def spec(name: str) -> Mixer:
    """The spec of that name, as step equations."""
    mixer = parse_mixer(Source(name, TEXTS[name]) if name in TEXTS else load_spec(name))
    found = masks_to_states(mixer) if mixer.masked else mixer
    assert isinstance(found, Mixer)
    return found


OTHERS = ("gla gated_rfa linear_attention_elu_norm mamba2_ssd hgrn2 rwkv6 rwkv7 dfw kda dplr retnet lion_s lion_s_norm "
          "gated_delta_rule abc gsa hgrn rglru mamba1 s4d_real").split()  # fmt: skip


def rewritten(mixer: Mixer) -> Mixer:
    found = stabilise(mixer)
    assert isinstance(found, Mixer) and found is not mixer, found
    verify(found)
    assert parse_ir(print_ir(found)) == found
    return found


def compare(mixer: Mixer, with_states: bool, seed: int = 0, T: int = 13) -> None:
    stable = rewritten(mixer)
    scaled = ScaledStates(mixer, stable)
    arrays = sample(mixer, 2, T, 2, seed=seed, extreme=True)
    states = sample_states(mixer, 2, 2, seed=seed + 1) if with_states else {}
    truth, last = run_mixer(mixer, arrays, states)
    found, final = run_mixer(stable, arrays, scaled.carried(states, {}))
    np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-12)
    for name, value in scaled.multiplied_out(final).items():
        np.testing.assert_allclose(value, last[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("with_states", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_results_are_those_of_the_spec(name: str, with_states: bool) -> None:
    compare(spec(name), with_states)


@pytest.mark.parametrize("name", RUNS)
def test_every_exponent_is_proved(name: str) -> None:
    assert all(e.proved for e in exponent_report(lower_step(rewritten(spec(name)))))


@pytest.mark.parametrize("name", RUNS)
def test_large_gates_overflow_nothing_in_float32(name: str) -> None:
    mixer = smir.compile(TEXTS.get(name, name), form="step")
    arrays = sample(mixer.spec, 1, 19, 1)
    for gate in {"i", "j", "k", "q"} & set(arrays) if name != "mlstm" else {"i"}:
        arrays[gate] = arrays[gate] * 30 + 120
    with np.errstate(over="raise"):
        y = mixer(**{n: a.astype(np.float32) for n, a in arrays.items()})
    truth, _ = run_mixer(mixer.spec, arrays)
    assert np.abs(y - truth).max() <= 1e-3 * np.abs(truth).max()


# ---- random specs of the class ----------------------------------------------------------------------------------

DECAYS = {"": "", "g: scalar in [-inf, 0]": "exp(g[t]) * ", "f: scalar": "sigmoid(f[t]) * ", "r: scalar in [0, 1]":
          "r[t] * ", "w: K in [-inf, 0]": "exp(w[t]) * "}  # fmt: skip
GATES = {"i: scalar": "exp(i[t])", "e: scalar": "exp(2 * e[t] - 1)", "i: K": "exp(i[t])", "s: scalar": "s[t]**2"}
READS = ("{S}.T @ q[t] / max(abs({z}.T @ q[t]), 1)", "{S}.T @ q[t] / (0.1 + abs({z}.T @ q[t]))",
         "tanh({S}.T @ q[t] / sqrt({z}.T @ {z} + 0.01))",
         "{S}.T @ softplus(q[t]) / ({z}.T @ softplus(q[t]))")  # fmt: skip


def random_text(seed: int) -> str:
    rng = np.random.default_rng(seed)
    decay = list(DECAYS)[rng.integers(len(DECAYS))]
    gates = [g for g in rng.permutation(list(GATES))[: rng.integers(1, 3)]] if seed % 3 else ["i: scalar"]
    if all("s:" in g for g in gates):
        gates = ["i: K"]
    if len({g[0] for g in gates}) < len(gates):
        gates = gates[:1]
    declared = "; ".join(f"input {d}" for d in (*([decay] if decay else []), *gates))
    factor, gate = DECAYS[decay], " * ".join(GATES[g] for g in gates)
    at, before = ("t-1", "t") if rng.random() < 0.3 else ("t", "t-1")
    read = READS[rng.integers(len(READS))].format(S=f"S[{at}]", z=f"z[{at}]")
    return (f"mixer random\n  input q: K; input k: K in [0, 2]; input v: V; {declared}\n  state S: K, V; state z: K\n"
            f"  S[t] = {factor}S[t-1] + ({gate} * k[t]) @ v[t].T\n  z[t] = {factor}z[t-1] + {gate} * k[t]\n"
            f"  y[t] = {read} + 0 * S[{before}].T @ k[t] / (1 + abs(z[{before}].T @ k[t]))\n")  # fmt: skip


@pytest.mark.parametrize("seed", range(24))
def test_random_specs(seed: int) -> None:
    mixer = parse_mixer(Source("random", random_text(seed)))
    compare(mixer, with_states=True, seed=seed, T=9)
    assert all(e.proved for e in exponent_report(lower_step(rewritten(mixer))))


# ---- structure --------------------------------------------------------------------------------------------------


def logs(mixer: Mixer) -> dict[str, str | None]:
    return {s.name: s.log for s in mixer.states}


def test_states_with_the_same_gates_share_a_log() -> None:
    found = rewritten(spec("mlstm"))
    assert logs(found) == {"S": "S_log", "z": "S_log", "S_log": None}
    log = found.state("S_log")
    assert log.dims == () and log.initial == -1e30
    assert rewritten(spec("rwkv4")).state("a_log").dims == spec("rwkv4").state("a").dims
    assert rewritten(spec("writes")).state("a_log").initial == 0.0


def test_each_direction_has_its_own_log() -> None:
    assert logs(rewritten(spec("both_ways"))) == {
        "F": "F_log", "B": "B_log", "f": "F_log", "b": "B_log", "F_log": None, "B_log": None}  # fmt: skip


def test_other_gates_or_decays_mean_another_log() -> None:
    assert logs(rewritten(spec("pairs"))) == {
        **{s: "a_log" for s in "ab"}, **{s: "c_log" for s in "cd"}, **{s: "e_log" for s in "ef"},
        "a_log": None, "c_log": None, "e_log": None}  # fmt: skip


def test_no_gradient_flows_through_logs() -> None:
    found = rewritten(spec("mlstm"))
    adjoint = adjoint_program(lower_step(found), [*"qkvif", "S", "z"])
    assert {c.name for s in adjoint.scans for c in s.carries} == {"S", "z", "S_log", "d_S", "d_z"}


def test_marks_are_gone_from_kernels() -> None:
    done = compile_spec(load_spec("mlstm"))
    assert any(n.op == "stop" for n in done.tiles[STEP].nodes())
    roots = [n for k in done.plans[STEP].kernels for n in k.roots()]
    assert not any(n.op == "stop" for n in walk(roots))


def test_explain_says_what_is_relative_to_what() -> None:
    assert "relative to e^a_log, a running maximum: a, b" in smir.compile("aft_simple_causal").explain().notes


# ---- what is left alone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OTHERS)
def test_other_library_specs_stay_as_they_are(name: str) -> None:
    mixer = parse_mixer(load_spec(name))
    found = masks_to_states(mixer) if mixer.masked else mixer
    if isinstance(found, Mixer):
        assert stabilise(found) is found


def test_a_promised_range_is_enough() -> None:
    text = load_spec("mlstm").text.replace("input i, f: scalar", "input i: scalar in [-20, 20]; input f: scalar")
    mixer = parse_mixer(Source("mlstm", text))
    assert stabilise(mixer) is mixer


def test_an_output_that_grows_with_the_state_is_left_alone() -> None:
    text = load_spec("mlstm").text.replace(" / max(abs(z[t].T @ q[t]), 1)", " + sum(z[t], K)")
    done = compile_spec(Source("mlstm", text))
    assert done.recurrence is done.spec
    (remark,) = done.remarks
    assert "exp(i[t])" in str(remark) and "promise a range" in str(remark) and remark.span is not None
    assert str(remark) in str(smir.compile(text).explain())


def test_a_taken_name() -> None:
    text = load_spec("mlstm").text.replace("state z: K\n", "state z: K\n  state z_log: K\n  z_log[t] = k[t]\n")
    text = text.replace("@ q[t] /", "@ (q[t] + z_log[t]) /")
    found = stabilise(parse_mixer(Source("mlstm", text)))
    assert isinstance(found, Obstacle) and "`z_log`, which is taken" in str(found)
