"""Attention of torch by name: each function makes the attention for one length of the sequence, on a GPU."""

from collections.abc import Callable
from typing import Any

SHORT, LONG = 8, 1024


def causal(tokens: int) -> Callable[..., Any]:
    """FlexAttention of what came before, and oneself."""
    return _masked(tokens, lambda b, h, i, j: i >= j)


def window8(tokens: int) -> Callable[..., Any]:
    """FlexAttention of the last eight tokens, oneself among them."""
    return _masked(tokens, lambda b, h, i, j: (i >= j) & (i - j < SHORT))


def window1024(tokens: int) -> Callable[..., Any]:
    """FlexAttention of the last 1024 tokens, oneself among them."""
    return _masked(tokens, lambda b, h, i, j: (i >= j) & (i - j < LONG))


def cudnn(tokens: int) -> Callable[..., Any]:
    """Causal attention of cuDNN."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def attention(q: Any, k: Any, v: Any) -> Any:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)

    return attention


def _masked(tokens: int, mask: Callable[..., Any]) -> Callable[..., Any]:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    blocks = create_block_mask(mask, None, None, tokens, tokens, device="cuda")
    compiled = torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: compiled(q, k, v, block_mask=blocks, scale=1.0)
