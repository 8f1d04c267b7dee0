"""fla-core's token-by-token references, called with a library spec's own arguments.

Theirs compute in float32, scale queries by K^-1/2 (often without asking), and keep heads before or after time; the
functions here undo both, so that every row is `spec name -> the same arguments, the same results`.
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch

with warnings.catch_warnings():  # it warns that this machine's Triton has no device
    warnings.simplefilter("ignore")
    pytest.importorskip("fla", reason="the extra `peers` isn't installed")
    from fla.ops.attn.naive import naive_parallel_attn
    from fla.ops.comba.naive import naive_recurrent_comba
    from fla.ops.delta_rule.naive import delta_rule_recurrence
    from fla.ops.gated_delta_product.naive import naive_recurrent_gated_delta_product
    from fla.ops.gated_delta_rule.naive import naive_recurrent_gated_delta_rule
    from fla.ops.gdn2.naive import naive_recurrent_gdn2
    from fla.ops.generalized_delta_rule.dplr.naive import dplr_recurrence
    from fla.ops.gla.naive import naive_recurrent_gla
    from fla.ops.gsa.naive import naive_recurrent_gsa
    from fla.ops.hgrn.naive import naive_recurrent_hgrn
    from fla.ops.kda.naive import naive_recurrent_kda
    from fla.ops.linear_attn.naive import naive_recurrent_linear_attn
    from fla.ops.momentum_delta_rule.naive import recurrent_momentum_delta_rule_ref
    from fla.ops.parallax.naive import naive_parallax
    from fla.ops.precond_kda.naive import naive_recurrent_precond_kda
    from fla.ops.retention.naive import naive_retention
    from fla.ops.rwkv6.recurrent_naive import naive_recurrent_rwkv6
    from fla.ops.simple_gla.naive import naive_recurrent_simple_gla
    from fla.ops.stickbreaking_attn.naive import naive_stickbreaking_attn

Tensor = Any  # torch.Tensor: types of torch aren't followed
Tensors = Mapping[str, Tensor]
# y, and the final states by the spec's names, from arguments and initial states by the spec's names
Reference = Callable[[Tensors, Tensors], tuple[Tensor, dict[str, Tensor]]]


def unscaled(q: Tensor) -> Tensor:
    """Queries for a function that multiplies them by K^-1/2."""
    return q * q.shape[-1] ** 0.5


def heads_first(*tensors: Tensor) -> list[Tensor]:
    """`[B, T, H, ..]` as `[B, H, T, ..]`, and back."""
    return [a.transpose(1, 2) for a in tensors]


def with_state(run: Callable[..., Any], *arguments: Tensor, S: Tensor, **options: Any) -> tuple[Tensor, dict[str, Any]]:
    """Of a function with one state S and heads after time."""
    y, final = run(*arguments, initial_state=S, output_final_state=True, **options)
    return y, {"S": final}


def with_heads_first(run: Callable[..., Any], *arguments: Tensor, S: Tensor, **options: Any) -> Any:
    """Of a function with one state S and heads before time."""
    y, final = with_state(run, *heads_first(*arguments), S=S, **options)
    return heads_first(y)[0], final


def linear_attention(x: Tensors, s: Tensors) -> Any:
    return with_state(naive_recurrent_linear_attn, x["q"], x["k"], x["v"], scale=1.0, S=s["S"])


def retnet(x: Tensors, s: Tensors) -> Any:
    """Its decays are fixed, 1 - 2^(-5 - h), and there is no state: `arguments` takes care of both."""
    return heads_first(naive_retention(*heads_first(unscaled(x["q"]), x["k"], x["v"])))[0], {}


def scalar_decay(x: Tensors, s: Tensors) -> Any:
    return with_state(naive_recurrent_simple_gla, x["q"], x["k"], x["v"], x["g"], scale=1.0, S=s["S"])


def mamba2_ssd(x: Tensors, s: Tensors) -> Any:
    dt = x["dt"]
    y, final = with_state(
        naive_recurrent_simple_gla, x["C"], x["B"], dt[..., None] * x["x"], dt * x["A"], scale=1.0, S=s["S"]
    )
    return y + x["D"][:, None] * x["x"], final


def gla(x: Tensors, s: Tensors) -> Any:
    return with_state(naive_recurrent_gla, unscaled(x["q"]), x["k"], x["v"], x["g"], S=s["S"])


def hgrn2(x: Tensors, s: Tensors) -> Any:
    return with_state(naive_recurrent_gla, unscaled(x["q"]), 1 - x["g"].exp(), x["v"], x["g"], S=s["S"])


def rwkv6(x: Tensors, s: Tensors) -> Any:
    y, final = naive_recurrent_rwkv6(
        *heads_first(x["q"], x["k"], x["v"], x["w"]),
        x["u"],
        scale=1.0,
        initial_state=s["S"],
        output_final_state=True,
    )
    return heads_first(y)[0], {"S": final}


def delta_rule(x: Tensors, s: Tensors) -> Any:
    return with_heads_first(delta_rule_recurrence, unscaled(x["q"]), x["k"], x["v"], x["beta"], S=s["S"])


def gated_delta_rule(x: Tensors, s: Tensors) -> Any:
    arguments = x["q"], x["k"], x["v"], x["beta"], x["g"]
    return with_state(naive_recurrent_gated_delta_rule, *arguments, scale=1.0, S=s["S"])


def kda(x: Tensors, s: Tensors) -> Any:
    return with_state(naive_recurrent_kda, x["q"], x["k"], x["v"], x["g"], x["beta"], scale=1.0, S=s["S"])


def dplr(x: Tensors, s: Tensors) -> Any:
    arguments = unscaled(x["q"]), x["k"], x["v"], x["a"], x["b"], x["g"]
    return with_heads_first(dplr_recurrence, *arguments, S=s["S"])


def rwkv7(x: Tensors, s: Tensors) -> Any:
    arguments = unscaled(x["r"]), x["k"], x["v"], -x["kk"], x["kk"] * x["a"], x["w"]
    return with_heads_first(dplr_recurrence, *arguments, S=s["S"])


def hgrn(x: Tensors, s: Tensors) -> Any:
    """Theirs has channels, no heads."""
    channels, g, h0 = x["x"].flatten(2), x["g"].flatten(2), s["h"].flatten(1)
    y, h = naive_recurrent_hgrn(channels, g, initial_state=h0, output_final_state=True)
    return y.unflatten(2, x["x"].shape[2:]), {"h": h.unflatten(1, s["h"].shape[1:])}


def slots(x: Tensors, s: Tensors) -> Any:
    """Without `g`, the slots' weights are a softmax over the past."""
    start = (s["Kt"], s["Vt"]) if s else None
    y, final = naive_recurrent_gsa(
        x["q"], x["k"], x["v"], x["s"], x.get("g"), scale=1.0, initial_state=start, output_final_state=True
    )
    return y, dict(zip(("Kt", "Vt"), final, strict=True))


def softmax_attention(x: Tensors, s: Tensors, **options: Any) -> Any:
    return naive_parallel_attn(x["q"], x["k"], x["v"], scale=1.0, g=x.get("g"), **options)[0], {}


# ---- mixers of examples/mixers ----------------------------------------------------------------------------------


def comba(x: Tensors, s: Tensors) -> Any:
    q = x["q"] - x["d"][:, None] * x["k"]
    return with_state(naive_recurrent_comba, q, x["k"], x["v"], x["p"], x["beta"], x["g"], scale=1.0, S=s["S"])


def delta_product(x: Tensors, s: Tensors) -> Any:
    """Theirs takes the keys, values and strengths of a token's steps one after the other, as if they were tokens."""
    steps = sum(name.startswith("beta") for name in x)
    k, v, beta = (
        torch.stack([x[f"{name}{i + 1}"] for i in range(steps)], dim=2).flatten(1, 2) for name in ("k", "v", "beta")
    )
    y, S = naive_recurrent_gated_delta_product(
        x["q"], k, v, x.get("g"), beta, 1.0, initial_state=s["S"], output_final_state=True, num_householder=steps
    )
    return y, {"S": S}


def gated_delta_rule_2(x: Tensors, s: Tensors) -> Any:
    arguments = x["q"], x["k"], x["v"], x["g"], x["b"], x["w"]
    return with_state(naive_recurrent_gdn2, *arguments, scale=1.0, S=s["S"])


def preconditioned_delta_rule(x: Tensors, s: Tensors) -> Any:
    """Theirs without the normalisation of queries and keys is the one with a decay per channel."""
    decay = x["g"][..., None].expand_as(x["k"])
    y, S, A = naive_recurrent_precond_kda(
        x["q"], x["k"], x["v"], decay, x["ga"], x["ba"], x["beta"], scale=1.0, log_atk_scale=x["c"],
        initial_state=s["S"], initial_A_state=s["A"], output_final_state=True,
    )  # fmt: skip
    return y, {"S": S, "A": A}


def momentum_delta_rule(x: Tensors, s: Tensors) -> Any:
    y, (S, M) = recurrent_momentum_delta_rule_ref(
        x["q"], x["k"], x["v"], x["alpha"].log(), x["mu"].log(), x["p"], x["beta"], x["eta"], scale=1.0,
        initial_S=s["S"], initial_M=s["M"], output_final_state=True,
    )  # fmt: skip
    return y, {"S": S, "M": M}


def parallax(x: Tensors, s: Tensors) -> Any:
    return naive_parallax(x["q"], x["r"], x["k"], x["v"], scale=1.0), {}


def stick_breaking(x: Tensors, s: Tensors) -> Any:
    return naive_stickbreaking_attn(x["q"], x["k"], x["v"], scale=1.0)[0], {}


REFERENCES: Mapping[str, Reference] = {
    "linear_attention": linear_attention,
    "retnet": retnet,
    "scalar_decay": scalar_decay,
    "mamba2_ssd": mamba2_ssd,
    "gla": gla,
    "hgrn2": hgrn2,
    "rwkv6": rwkv6,
    "delta_rule": delta_rule,
    "gated_delta_rule": gated_delta_rule,
    "kda": kda,
    "dplr": dplr,
    "rwkv7": rwkv7,
    "hgrn": hgrn,
    "abc": slots,
    "gsa": slots,
    "softmax_causal": softmax_attention,
    "softmax_window8": partial(softmax_attention, window_size=8),
    "softmax_full": partial(softmax_attention, causal=False),
    "softmax_gqa": softmax_attention,
    "forgetting_attention": softmax_attention,
    "comba": comba,
    "delta_product": delta_product,
    "gated_delta_product": delta_product,
    "gated_delta_rule_2": gated_delta_rule_2,
    "preconditioned_delta_rule": preconditioned_delta_rule,
    "momentum_delta_rule": momentum_delta_rule,
    "parallax": parallax,
    "stick_breaking": stick_breaking,
}
