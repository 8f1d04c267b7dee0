"""Layers of transformers with random weights, and how a compiled mixer takes the place of the mixing inside them.

Projections, convolutions, gates and norms stay theirs: an adapter has the signature of the function or method that it
replaces, and calls the mixer on what the layer hands over.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from smir.compiled import CompiledMixer

with warnings.catch_warnings():  # fla, which transformers tries to import, warns that Triton has no device here
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason="the extra `peers` isn't installed")
    from transformers.models.bamba import configuration_bamba, modeling_bamba
    from transformers.models.kimi_linear import configuration_kimi_linear, modeling_kimi_linear
    from transformers.models.llama import configuration_llama, modeling_llama
    from transformers.models.mamba import configuration_mamba, modeling_mamba
    from transformers.models.mamba2 import configuration_mamba2, modeling_mamba2
    from transformers.models.minimax import configuration_minimax, modeling_minimax
    from transformers.models.mistral import configuration_mistral, modeling_mistral
    from transformers.models.qwen3_next import configuration_qwen3_next, modeling_qwen3_next
    from transformers.models.recurrent_gemma import configuration_recurrent_gemma, modeling_recurrent_gemma
    from transformers.models.rwkv import configuration_rwkv, modeling_rwkv
    from transformers.models.xlstm import configuration_xlstm, modeling_xlstm

Tensor = Any  # torch.Tensor: types of torch aren't followed
WIDTH, TOKENS = 32, 27


@dataclass(frozen=True)
class Layer:
    """One of their layers: `adapter(mixer, owner)` replaces the attribute `name` of `owner`, a module of theirs or a
    part of the built layer; `run` calls the layer on `[B, T, WIDTH]`."""

    spec: str
    build: Callable[[], nn.Module]
    owner: Callable[[nn.Module], Any]
    name: str
    adapter: Callable[[CompiledMixer, Any], Callable[..., Any]]
    run: Callable[[nn.Module, Tensor], Tensor] = lambda layer, x: layer(x)


def draw_weights(layer: nn.Module) -> nn.Module:
    """The layer with all its weights drawn; what their constructors leave empty or constant too."""
    with torch.no_grad():
        for name, p in layer.named_parameters():
            drawn = torch.randn(p.shape) / max(p.shape[-1], 1) ** 0.5 if p.ndim > 1 else 0.3 * torch.randn(p.shape)
            p.copy_(drawn + 1 if name.endswith("norm.weight") else drawn)
    return layer


def unit(x: Tensor) -> Tensor:
    """Their l2 norm over the last axis."""
    return x / ((x * x).sum(-1, keepdim=True) + 1e-6).sqrt()


def repeated(x: Tensor, heads: int) -> Tensor:
    """One head of x for each of `heads`: consecutive heads share one."""
    return x.repeat_interleave(heads // x.shape[2], dim=2)


def selective_scan(mixer: CompiledMixer, _: Any) -> Callable[..., Tensor]:
    def run(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor, z: Tensor, delta_bias: Tensor,
            **_: Any) -> Tensor:  # fmt: skip
        delta = F.softplus(dt + delta_bias[:, None])
        u, delta, B, C = (x.transpose(1, 2) for x in (u, delta, B, C))
        return mixer(u=u, delta=delta, A=A, B=B, C=C, D=D).transpose(1, 2) * F.silu(z)

    return run


def chunk_scan(mixer: CompiledMixer, _: Any) -> Callable[..., Tensor]:
    def run(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor, dt_bias: Tensor, **_: Any) -> Tensor:
        B, C = (repeated(a, x.shape[2]) for a in (B, C))
        return mixer(x=x, dt=F.softplus(dt + dt_bias), A=A, B=B, C=C, D=D)

    return run


def gated_delta_rule(mixer: CompiledMixer, _: Any) -> Callable[..., Any]:
    def run(q: Tensor, k: Tensor, v: Tensor, *, g: Tensor, beta: Tensor, **_: Any) -> Any:
        q, k = (repeated(unit(a), v.shape[2]) for a in (q, k))
        return mixer(q=q * q.shape[-1] ** -0.5, k=k, v=v, g=g, beta=beta), None

    return run


def rwkv_attention(mixer: CompiledMixer, _: Any) -> Callable[..., Any]:
    def run(time_decay: Tensor, time_first: Tensor, k: Tensor, v: Tensor, **_: Any) -> Any:
        return mixer(k=k, v=v, w=-time_decay.exp(), u=time_first), None

    return run


def mlstm_backend(mixer: CompiledMixer, _: Any) -> Callable[..., Any]:
    def run(*, query: Tensor, key: Tensor, value: Tensor, igate: Tensor, fgate: Tensor, **_: Any) -> Any:
        q, k, v, i, f = (a.transpose(1, 2) for a in (query, key, value, igate, fgate))
        return mixer(q=q * q.shape[-1] ** -0.5, k=k, v=v, i=i, f=f).transpose(1, 2), None

    return run


def attention(mixer: CompiledMixer, _: Any) -> Callable[..., Any]:
    """Rotary embeddings have been applied already; the mask that the layer passes on is the mixer's own."""

    def run(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, *, scaling: float, **_: Any) -> Any:
        q, k, v = (a.transpose(1, 2) for a in (q, k, v))
        return mixer(q=q * scaling, k=repeated(k, q.shape[2]), v=repeated(v, q.shape[2])), None

    return run


def lightning_attention(mixer: CompiledMixer, layer: Any) -> Callable[..., Any]:
    """Their method does everything in one body, so the layer's own projections, norm and gate are called from here."""

    def run(x: Tensor, *_: Any) -> Any:
        packed = layer.act_fn(layer.qkv_proj(x)).unflatten(-1, (layer.num_attention_heads, -1))
        q, k, v = packed.split(layer.head_dim, dim=-1)
        y = mixer(q=q, k=k, v=v, gamma=(-layer.slope_rate).exp().flatten()).flatten(2)
        return layer.out_proj(layer.output_gate(x).sigmoid() * layer.norm(y)), None

    return run


def real_gated_unit(mixer: CompiledMixer, layer: Any) -> Callable[..., Any]:
    """The gates' block-diagonal projections are the layer's own weights."""

    def run(x: Tensor, position_ids: Tensor) -> Tensor:
        blocks = x.unflatten(-1, (layer.num_attention_heads, layer.block_width))
        i = torch.einsum("bthn,hnm->bthm", blocks, layer.input_gate_weight) + layer.input_gate_bias
        r = torch.einsum("bthn,hnm->bthm", blocks, layer.recurrent_gate_weight) + layer.recurrent_gate_bias
        reset = (position_ids == 0).to(x.dtype)
        return mixer(x=x, i=i.flatten(2), r=r.flatten(2), L=layer.recurrent_param, reset=reset)

    return run


def mamba() -> nn.Module:
    config = configuration_mamba.MambaConfig(
        hidden_size=WIDTH, state_size=8, num_hidden_layers=1, expand=2, time_step_rank=4, vocab_size=8
    )
    return modeling_mamba.MambaMixer(config, 0)


def mamba2() -> nn.Module:
    config = configuration_mamba2.Mamba2Config(
        hidden_size=WIDTH, state_size=8, num_heads=4, head_dim=16, expand=2, n_groups=2, chunk_size=8, vocab_size=8
    )
    return modeling_mamba2.Mamba2Mixer(config, 0)


def bamba() -> nn.Module:
    config = configuration_bamba.BambaConfig(
        hidden_size=WIDTH, mamba_n_heads=4, mamba_d_head=16, mamba_n_groups=2, mamba_d_state=8, mamba_chunk_size=8
    )
    return modeling_bamba.BambaMixer(config, 0)


def rwkv() -> nn.Module:
    config = configuration_rwkv.RwkvConfig(hidden_size=WIDTH, num_hidden_layers=1, vocab_size=8)
    return modeling_rwkv.RwkvSelfAttention(config)


def xlstm() -> nn.Module:
    config = configuration_xlstm.xLSTMConfig(
        hidden_size=WIDTH, num_heads=2, num_hidden_layers=1, eps=1e-12, autocast_kernel_dtype="float32", chunk_size=8
    )
    return modeling_xlstm.xLSTMLayer(config)


def recurrent_gemma() -> nn.Module:
    config = configuration_recurrent_gemma.RecurrentGemmaConfig(
        hidden_size=WIDTH, lru_width=WIDTH, num_attention_heads=4, num_hidden_layers=3
    )
    return modeling_recurrent_gemma.RecurrentGemmaRecurrentBlock(config, 0)


def qwen3_next() -> nn.Module:
    config = configuration_qwen3_next.Qwen3NextConfig(
        hidden_size=WIDTH, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=12, num_hidden_layers=4,
    )  # fmt: skip
    return modeling_qwen3_next.Qwen3NextGatedDeltaNet(config, 0)


def kimi_linear() -> nn.Module:
    config = configuration_kimi_linear.KimiLinearConfig(
        hidden_size=WIDTH, linear_num_heads=2, linear_head_dim=16, num_hidden_layers=4
    )
    return modeling_kimi_linear.KimiLinearDeltaAttention(config, 0)


def minimax() -> nn.Module:
    config = configuration_minimax.MiniMaxConfig(
        hidden_size=WIDTH, num_attention_heads=4, num_key_value_heads=4, num_hidden_layers=4, block_size=8
    )
    return modeling_minimax.MiniMaxLightningAttention(config, 1)


HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "attn_implementation": "eager"}


def llama() -> nn.Module:
    return modeling_llama.LlamaAttention(configuration_llama.LlamaConfig(hidden_size=WIDTH, **HEADS), 0)


def mistral() -> nn.Module:
    return modeling_mistral.MistralAttention(configuration_mistral.MistralConfig(hidden_size=WIDTH, **HEADS), 0)


def attend(layer: Any, x: Tensor, window: int = TOKENS) -> Tensor:
    """A layer of attention, with the rotations and the mask that its model would make."""
    tokens = torch.arange(x.shape[1])
    rotary = modeling_llama.LlamaRotaryEmbedding(configuration_llama.LlamaConfig(hidden_size=WIDTH, **HEADS))
    distance = tokens[:, None] - tokens
    hidden = (distance < 0) | (distance >= window)
    mask = torch.zeros(x.shape[1], x.shape[1]).masked_fill(hidden, -torch.inf)[None, None]
    return layer(x, position_embeddings=rotary(x, tokens[None]), attention_mask=mask)[0]


def _positions(x: Tensor) -> Tensor:
    """Two documents in one sequence: the state is reset at the second one's start."""
    return torch.cat([torch.arange(10), torch.arange(x.shape[1] - 10)]).expand(x.shape[0], -1)


def of(module: Any) -> Callable[[nn.Module], Any]:
    return lambda layer: module


LAYERS = {
    "Mamba": Layer("mamba1", mamba, of(modeling_mamba), "mamba_selective_scan", selective_scan),
    "Mamba-2": Layer("mamba2_ssd", mamba2, of(modeling_mamba2), "mamba2_chunk_scan", chunk_scan),
    "Bamba": Layer("mamba2_ssd", bamba, of(modeling_bamba), "mamba2_chunk_scan", chunk_scan),
    "RWKV": Layer("rwkv4", rwkv, of(modeling_rwkv), "rwkv_linear_attention", rwkv_attention,
                  lambda layer, x: layer(x)[0]),
    "xLSTM": Layer("mlstm", xlstm, lambda layer: layer.mlstm_backend, "forward", mlstm_backend,
                   lambda layer, x: layer(x)[0]),
    "RecurrentGemma": Layer("rglru", recurrent_gemma, lambda layer: layer.rg_lru, "forward", real_gated_unit,
                            lambda layer, x: layer(x, _positions(x), None, use_cache=False)[0]),
    "Qwen3-Next": Layer("gated_delta_rule", qwen3_next, of(modeling_qwen3_next), "torch_chunk_gated_delta_rule",
                        gated_delta_rule),
    "Kimi Linear": Layer("kda", kimi_linear, of(modeling_kimi_linear), "chunk_kimi_delta_attention", gated_delta_rule),
    "Llama": Layer("softmax_causal", llama, of(modeling_llama), "eager_attention_forward", attention, attend),
    "Mistral": Layer("softmax_window8", mistral, of(modeling_mistral), "eager_attention_forward", attention,
                     partial(attend, window=8)),
    "MiniMax": Layer("retnet", minimax, lambda layer: layer, "forward", lightning_attention,
                     lambda layer, x: layer(x, None, None)[0]),
}  # fmt: skip
