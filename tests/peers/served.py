"""Language models of transformers whose mixing is compiled, short convolutions included: prefill, decoding, training.

Embeddings, projections, norms and heads stay theirs, and so do all weights. What a layer has to remember of a sequence
is the `state` of its two compiled mixers; their cache isn't asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import smir
from tests.peers.layers import (
    WIDTH,
    Tensor,
    configuration_mamba2,
    configuration_qwen3_next,
    modeling_mamba2,
    modeling_qwen3_next,
    repeated,
    unit,
)

Arrays = Mapping[str, Tensor]
BYTES = 48  # the vocabulary


class Carried:
    """A compiled mixer, the state of the sequence that it is in, and how many tokens it took by `step`."""

    def __init__(self, spec: str) -> None:
        self.mixer, self.steps = smir.compile(spec), 0
        self.state: Any = None

    def __call__(self, inputs: Arrays, params: Arrays, carry: bool) -> Tensor:
        """y `[B, T, H, dims...]`; without `carry` the sequence is whole, and nothing is remembered."""
        if not carry:
            return self.mixer(**inputs, **params)
        if self.state is None or next(iter(inputs.values())).shape[1] > 1:
            y, self.state = self.mixer(**inputs, **params, state=self.state, return_state=True)
            return y
        token = {name: a[:, 0] for name, a in inputs.items()}
        y, self.state = self.mixer.step(**token, **params, state=self.state)
        self.steps += 1
        return y[:, None]


class Served:
    """What takes the place of a layer's `forward`."""

    def __init__(self, layer: Any, spec: str, mixing: Callable[..., Tensor]) -> None:
        self.layer, self.mixing = layer, mixing
        self.convolution, self.mixer = Carried("short_convolution"), Carried(spec)

    def __call__(
        self, hidden_states: Tensor, cache_params: Any = None, attention_mask: Tensor = None, **_: Any
    ) -> Tensor:
        assert attention_mask is None, "no padding here"
        carry = cache_params is not None

        def convolve(x: Tensor) -> Tensor:
            return self.convolution({"x": x[:, :, None]}, taps(self.layer.conv1d), carry)[:, :, 0]

        def mix(inputs: Arrays, **params: Tensor) -> Tensor:
            return self.mixer(inputs, params, carry)

        return self.mixing(self.layer, hidden_states, convolve, mix)


def taps(conv: nn.Conv1d) -> Arrays:
    """The convolution's weights, the newest token's first, and its bias: one head `[1, D]`."""
    newest_first = conv.weight[:, 0].flip(-1).T[:, None]
    bias = torch.zeros_like(newest_first[0]) if conv.bias is None else conv.bias[None]
    return dict(zip("abcd", newest_first, strict=True), bias=bias)


def mamba2(layer: Any, x: Tensor, convolve: Callable[..., Tensor], mix: Callable[..., Tensor]) -> Tensor:
    heads, state = layer.num_heads, layer.n_groups * layer.ssm_state_size
    gate, mixed, dt = layer.in_proj(x).split([layer.intermediate_size, layer.conv_dim, heads], dim=-1)
    x, B, C = convolve(mixed).split([layer.intermediate_size, state, state], dim=-1)
    B, C = (repeated(a.unflatten(-1, (layer.n_groups, -1)), heads) for a in (B, C))
    inputs = {"x": x.unflatten(-1, (heads, -1)), "dt": F.softplus(dt + layer.dt_bias), "B": B, "C": C}
    return layer.out_proj(layer.norm(mix(inputs, A=-layer.A_log.exp(), D=layer.D).flatten(2), gate))


def qwen3_next(layer: Any, x: Tensor, convolve: Callable[..., Tensor], mix: Callable[..., Tensor]) -> Tensor:
    *parts, z, b, a = layer.fix_query_key_value_ordering(layer.in_proj_qkvz(x), layer.in_proj_ba(x))
    mixed = convolve(torch.cat([part.flatten(2) for part in parts], dim=-1))
    q, k, v = mixed.split([layer.key_dim, layer.key_dim, layer.value_dim], dim=-1)
    q, k = (repeated(unit(part.unflatten(-1, (layer.num_k_heads, -1))), layer.num_v_heads) for part in (q, k))
    v, g = v.unflatten(-1, (layer.num_v_heads, -1)), -layer.A_log.exp() * F.softplus(a + layer.dt_bias)
    y = mix({"q": q * layer.head_k_dim**-0.5, "k": k, "v": v, "g": g, "beta": b.sigmoid()})
    return layer.out_proj(layer.norm(y.flatten(0, 2), z.flatten(0, 2)).view_as(y).flatten(2))


@dataclass(frozen=True)
class Language:
    """A model: the class of the layers that are replaced, what mixes in their place, the functions of `module` that
    mix in theirs, and the argument that their cache is."""

    spec: str
    build: Callable[[], nn.Module]
    layer: type[nn.Module]
    mixing: Callable[..., Tensor]
    module: Any
    functions: tuple[str, ...]
    cache: str

    def replaced(self, model: nn.Module) -> list[Served]:
        """A compiled layer, its state that before the first token, for each of the model's."""
        return [Served(m, self.spec, self.mixing) for m in model.modules() if isinstance(m, self.layer)]


def mamba2_model() -> nn.Module:
    config = configuration_mamba2.Mamba2Config(
        hidden_size=WIDTH, state_size=8, num_heads=4, head_dim=16, expand=2, n_groups=2, chunk_size=8,
        num_hidden_layers=2, vocab_size=BYTES, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return modeling_mamba2.Mamba2ForCausalLM(config)


def qwen3_next_model() -> nn.Module:
    """Two layers of the gated delta rule and one of attention, which stays theirs with its cache."""
    config = configuration_qwen3_next.Qwen3NextConfig(
        hidden_size=WIDTH, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=12, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48,
        num_hidden_layers=3, layer_types=["linear_attention", "full_attention", "linear_attention"],
        mlp_only_layers=[0, 1, 2], vocab_size=BYTES, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=16, shared_expert_intermediate_size=16,
    )  # fmt: skip
    return modeling_qwen3_next.Qwen3NextForCausalLM(config)


CONVOLUTIONS = ("causal_conv1d_fn", "causal_conv1d_update")
MODELS = {
    "Mamba-2": Language(
        "mamba2_ssd", mamba2_model, modeling_mamba2.Mamba2Mixer, mamba2, modeling_mamba2,
        (*CONVOLUTIONS, "mamba2_chunk_scan", "mamba2_selective_state_update", "mamba2_split_conv1d_scan_combined"),
        "cache_params",
    ),
    "Qwen3-Next": Language(
        "gated_delta_rule", qwen3_next_model, modeling_qwen3_next.Qwen3NextGatedDeltaNet, qwen3_next,
        modeling_qwen3_next,
        (*CONVOLUTIONS, "torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"), "past_key_values",
    ),
}  # fmt: skip
