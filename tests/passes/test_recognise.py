"""Recognition: the same operator from every way of writing it, equal to the oracle."""

import pytest

from smir.frontends import parse_mixer
from smir.ir.operator import AFTER, BACKWARD, BEFORE, DECAYED, FORWARD, Operator
from smir.library import load, names
from tests.passes.oracle_checks import assert_equals_oracle, mixer_of, recognised

KINDS = {
    "abc": ["diagonal K", "diagonal V", "logsum"],
    "bidir_half": ["scalar", "scalar"],
    "delta_rule": ["identity + low rank"],
    "dfw": ["diagonal K, V"],
    "dplr": ["diagonal K + low rank"],
    "gated_delta_rule": ["scalar + low rank"],
    "gated_rfa": ["scalar", "scalar"],
    "gated_rfa_unnorm": ["scalar"],
    "gla": ["diagonal K"],
    "gsa": ["diagonal K", "diagonal V"],
    "hgrn2": ["diagonal K"],
    "hydra": ["scalar"] * 2,
    "kda": ["diagonal K + low rank"],
    "linear_attention": ["identity"],
    "linear_attention_elu_norm": ["identity", "identity"],
    "lion_d": ["scalar"] * 2,
    "lion_d_norm": ["scalar"] * 4,
    "lion_lit": ["identity"] * 2,
    "lion_lit_norm": ["identity"] * 4,
    "lion_s": ["scalar"] * 2,
    "lion_s_norm": ["scalar"] * 4,
    "lion_s_repo": ["scalar"] * 2,
    "lion_s_repo_norm": ["scalar"] * 4,
    "mamba2_ssd": ["scalar"],
    "momentum": ["scalar", "scalar"],
    "retnet": ["scalar"],
    "rwkv6": ["diagonal K"],
    "rwkv7": ["diagonal K + low rank"],
    "scalar_decay": ["scalar"],
}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_library_spec_is_recognised_with_its_kind(name: str) -> None:
    mixer = parse_mixer(load(name))
    program = recognised(mixer)
    assert sorted(s.kind for s in program.stages) == KINDS[name]
    assert_equals_oracle(mixer, program)


def test_every_linear_library_spec_has_an_expected_kind() -> None:
    assert set(KINDS) <= set(names())


READ = "y[t] = S[t].T @ q[t]"
KV = "k[t] @ v[t].T"
STATE = "state S: K, V\n"

# Several spellings of one operator: (expected kind, update of S).
SPELLINGS = [
    ("identity", f"S[t] = S[t-1] + {KV}"),
    ("identity", "S[t] = S[t-1] + k[t] * v[t].T"),
    ("identity", "S[t] = (v[t] @ k[t].T + S[t-1].T).T"),
    ("identity", "S[t] = S[t-1] + (k[t] + k[t-1]) @ (v[t] - v[t-2]).T"),
    ("scalar", f"S[t] = exp(g[t]) * S[t-1] + {KV}"),
    ("scalar", "S[t] = S[t-1] * exp(g[t]) / 2 + diag(u) @ k[t] @ v[t].T"),
    ("scalar", f"S[t] = lam[t] * S[t-1] + (1 - lam[t]) * ({KV})"),
    ("scalar", f"S[t] = S[t-1] + lam[t] * ({KV} - S[t-1])"),
    ("scalar", f"S[t] = sigmoid(w[t]) * S[t-1] + exp(w[t]) * {KV}"),
    ("scalar", f"S[t] = gamma**2 * S[t-1] + {KV}"),
    ("scalar", f"S[t] = where(lam[t] < 0.5, 0, exp(g[t])) * S[t-1] + {KV}"),
    ("scalar", f"S[t] = where(lam[t] < 0.5, S[t-1] * 0.5, exp(g[t]) * S[t-1] + {KV})"),
    ("scalar", f"S[t] = w[t] * S[t-1] + {KV}"),
    ("scalar", f"S[t] = -S[t-1] * lam[t]**2 + {KV}"),
    ("scalar", f"S[t] = {KV}"),
    ("diagonal K", f"S[t] = diag(exp(gk[t])) @ S[t-1] + {KV}"),
    ("diagonal K", "S[t] = exp(gk[t]) * S[t-1] + (1 - exp(gk[t])) @ v[t].T"),
    ("diagonal K", f"S[t] = (S[t-1].T @ diag(exp(gk[t]))).T + {KV}"),
    ("diagonal K", f"S[t] = exp(g[t]) * (exp(gk[t]) * S[t-1]) + {KV}"),
    ("diagonal V", f"S[t] = S[t-1] @ diag(exp(gv[t])) + {KV}"),
    ("diagonal V", f"S[t] = S[t-1] * exp(gv[t]).T + {KV}"),
    ("diagonal K, V", f"S[t] = S[t-1] * (exp(gk[t]) @ exp(gv[t]).T) + {KV}"),
    ("diagonal K, V", f"S[t] = S[t-1] * exp(gk[t] + gv[t].T) + {KV}"),
    ("diagonal K, V", f"S[t] = diag(exp(gk[t])) @ S[t-1] @ diag(exp(gv[t])) + {KV}"),
    ("identity + low rank", "S[t] = S[t-1] + k[t] @ (beta[t] * (v[t] - S[t-1].T @ k[t])).T"),
    ("identity + low rank", "S[t] = S[t-1] - beta[t] * k[t] @ (k[t].T @ S[t-1]) + beta[t] * k[t] @ v[t].T"),
    ("identity + low rank", "S[t] = (eye(K) - beta[t] * k[t] @ k[t].T) @ S[t-1] + k[t] @ v[t].T"),
    ("scalar + low rank", "R = exp(g[t]) * S[t-1]\nS[t] = R + k[t] @ (beta[t] * (v[t] - R.T @ k[t])).T"),
    ("scalar + low rank", "S[t] = exp(g[t]) * (eye(K) - beta[t] * k[t] @ k[t].T) @ S[t-1] + k[t] @ v[t].T"),
    ("diagonal K + low rank", "R = exp(gk[t]) * S[t-1]\nS[t] = R + k[t] @ (beta[t] * (v[t] - R.T @ k[t])).T"),
    ("diagonal K + low rank", "S[t] = (eye(K) - beta[t]*k[t]@k[t].T) @ diag(exp(gk[t])) @ S[t-1] + k[t]@v[t].T"),
    ("diagonal K + low rank", "S[t] = (diag(exp(gk[t])) + k2[t] @ k[t].T) @ S[t-1] + k[t] @ v[t].T"),
    ("diagonal K + low rank", "S[t] = diag(exp(gk[t])) @ S[t-1] + k2[t] @ (S[t-1].T @ k[t]).T + k[t] @ v[t].T"),
]


@pytest.mark.parametrize(("kind", "update"), SPELLINGS)
def test_spelling(kind: str, update: str) -> None:
    mixer = mixer_of(f"{STATE}{update}\n{READ}\n")
    program = recognised(mixer)
    assert [o.kind for o in program.operators] == [kind]
    assert not program.operators[0].transposed
    assert_equals_oracle(mixer, program)


@pytest.mark.parametrize(("kind", "update"), [s for s in SPELLINGS if "g" in s[1]][:8])
def test_exact_resets(kind: str, update: str) -> None:
    mixer = mixer_of(f"{STATE}{update}\n{READ}\n")
    assert_equals_oracle(mixer, recognised(mixer), resets=True)


def operator_of(update: str, read: str = READ) -> Operator:
    return recognised(mixer_of(f"{STATE}{update}\n{read}\n")).operators[0]


def test_log_of_an_exponential_is_its_argument() -> None:
    decay = operator_of(f"S[t] = exp(g[t]) * S[t-1] + {KV}").decay.scalar
    assert decay is not None
    assert decay.log.op == "input"
    assert decay.sign is None


def test_decay_that_may_be_negative_has_a_sign() -> None:
    decay = operator_of(f"S[t] = w[t] * S[t-1] + {KV}").decay.scalar
    assert decay is not None
    assert decay.sign is not None


def test_erase_from_decayed_and_from_undecayed_state() -> None:
    decayed = operator_of("R = exp(g[t]) * S[t-1]\nS[t] = R + k[t] @ (v[t] - R.T @ k[t]).T").steps[0].writes
    undecayed = operator_of("S[t] = exp(g[t]) * S[t-1] + k[t] @ (v[t] - S[t-1].T @ k[t]).T").steps[0].writes
    assert [w.erase.when for w in decayed if w.erase] == [DECAYED]
    assert [w.erase.when for w in undecayed if w.erase] == [BEFORE]


def test_value_and_erase_with_one_left_vector_are_one_write() -> None:
    (write,) = operator_of("S[t] = S[t-1] + k[t] @ (beta[t] * (v[t] - S[t-1].T @ k[t])).T").steps[0].writes
    assert write.left.op == "input"
    assert write.value is not None
    assert write.erase is not None


TWICE = """R = exp(g[t]) * S[t-1]
P = R + k[t] @ (beta[t] * (v[t] - R.T @ k[t])).T
S[t] = P + k2[t] @ (beta[t] * (v[t] - P.T @ k2[t])).T
"""
THRICE = TWICE.replace("S[t] =", "Q =") + "S[t] = Q + q[t] @ (lam[t] * (v[t] - Q.T @ q[t])).T\n"
LATE_DECAY = """P = S[t-1] - k[t] @ (beta[t] * (S[t-1].T @ k[t])).T
R = exp(gk[t]) * P
S[t] = R + k2[t] @ (beta[t] * (v[t] - R.T @ k2[t])).T
"""
PRODUCT = "S[t] = (eye(K) - beta[t]*k[t]@k[t].T) @ (eye(K) - lam[t]*k2[t]@k2[t].T) @ S[t-1] + k[t]@v[t].T\n"


@pytest.mark.parametrize(("update", "steps"), [(TWICE, 2), (THRICE, 3), (LATE_DECAY, 2), (PRODUCT, 1)])
def test_several_micro_steps_per_token(update: str, steps: int) -> None:
    mixer = mixer_of(f"{STATE}{update}{READ}\n")
    program = recognised(mixer)
    (operator,) = program.operators
    assert len(operator.steps) == steps
    assert all(s.decay.kind == "identity" for s in operator.steps[1:])
    assert_equals_oracle(mixer, program)


# Output expressions and the moments of their reads.
READS = [
    ("y[t] = S[t].T @ q[t]", [AFTER]),
    ("y[t] = (q[t].T @ S[t]).T", [AFTER]),
    ("y[t] = sum(S[t] * q[t], K).T", [AFTER]),
    ("y[t] = S[t-1].T @ q[t] + v[t]", [BEFORE]),
    ("y[t] = (S[t-1] + diag(u) @ k[t] @ v[t].T).T @ q[t]", [BEFORE]),
    ("y[t] = R.T @ q[t]", [DECAYED]),
    ("y[t] = rmsnorm(S[t].T @ q[t]) * sigmoid(v[t]) + R.T @ k[t]", [AFTER, DECAYED]),
    ("y[t] = ((eye(K) - k[t] @ k[t].T) @ S[t]).T @ q[t]", [AFTER, AFTER]),
    ("y[t] = (S[t] + S[t-1]).T @ q[t] / (1 + abs(w[t]))", [AFTER, BEFORE]),
    ("y[t] = tanh(S[t].T @ q[t]) + (q[t].T @ S[t] @ v[t]) * v[t]", [AFTER]),
]


@pytest.mark.parametrize(("read", "moments"), READS)
def test_read_outs(read: str, moments: list[str]) -> None:
    mixer = mixer_of(f"{STATE}R = exp(g[t]) * S[t-1]\nS[t] = R + {KV}\n{read}\n")
    program = recognised(mixer)
    assert sorted(r.when for r in program.reads) == sorted(moments)
    assert_equals_oracle(mixer, program)


OTHERS = {
    "vector state by value": "state h: V\nh[t] = exp(gv[t]) * h[t-1] + v[t]\ny[t] = tanh(h[t]) * v[t] + h[t-1]\n",
    "ratio of vector states": (
        "state a, b: V\ny[t] = (a[t-1] + exp(gv[t]) * v[t]) / (b[t-1] + exp(gv[t]))\n"
        "a[t] = exp(gv[t]) * a[t-1] + exp(gv[t]) * v[t]\nb[t] = exp(gv[t]) * b[t-1] + exp(gv[t])\n"
    ),
    "vector state contracted": (
        "state S: K, V\nstate z: K\nS[t] = exp(gk[t]) * S[t-1] + k[t] @ v[t].T\nz[t] = exp(gk[t]) * z[t-1] + k[t]\n"
        "y[t] = S[t].T @ q[t] / max(abs(z[t].T @ q[t]), 1)\n"
    ),
    "vector state by value and contracted": (
        "state z: K\nz[t] = exp(gk[t]) * z[t-1] + k[t]\ny[t] = (z[t].T @ q[t]) * v[t] + sum(z[t] * z[t], K) * v[t]\n"
    ),
    "vector state with erase": (
        "state z: K\nz[t] = exp(g[t]) * z[t-1] + k[t] * (beta[t] - k[t].T @ z[t-1])\ny[t] = (z[t].T @ q[t]) * v[t]\n"
    ),
    "scalar state": "state n: scalar\nn[t] = exp(g[t]) * n[t-1] + lam[t]\ny[t] = n[t] * v[t] / (1 + n[t]**2)\n",
    "two directions": (
        "state F, B: K, V\nF[t] = exp(g[t]) * F[t-1] + k[t] @ v[t].T\nB[t] = exp(g[t+1]) * B[t+1] + k[t] @ v[t].T\n"
        "y[t] = (F[t] + B[t]).T @ q[t] - (k[t].T @ q[t]) * v[t]\n"
    ),
    "backward with erase": (
        "state B: K, V\nR = exp(g[t+1]) * B[t+1]\nB[t] = R + k[t] @ (beta[t] * (v[t] - R.T @ k[t])).T\n"
        "y[t] = B[t+1].T @ q[t]\n"
    ),
}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS.keys())
def test_other_states(body: str) -> None:
    mixer = mixer_of(body)
    assert_equals_oracle(mixer, recognised(mixer))


def test_directions() -> None:
    program = recognised(mixer_of(OTHERS["two directions"]))
    assert [o.direction for o in program.operators] == [FORWARD, BACKWARD]


TRANSPOSED = [
    ("S[t] = S[t-1] @ (eye(K) - beta[t] * k[t] @ k[t].T) * exp(g[t]) + v[t] @ k[t].T", "scalar + low rank"),
    ("R = S[t-1] @ diag(exp(gk[t]))\nS[t] = R + (beta[t] * (v[t] - R @ k[t])) @ k[t].T", "diagonal K + low rank"),
    ("S[t] = exp(gv[t]) * S[t-1] + v[t] @ k[t].T", "diagonal V"),
]


@pytest.mark.parametrize(("update", "kind"), TRANSPOSED)
def test_state_declared_the_other_way_round(update: str, kind: str) -> None:
    mixer = mixer_of(f"state S: V, K\n{update}\ny[t] = S[t] @ q[t]\n")
    program = recognised(mixer)
    (operator,) = program.operators
    assert operator.transposed
    assert (str(operator.rows), str(operator.cols), operator.kind) == ("K", "V", kind)
    assert_equals_oracle(mixer, program)
