"""FlexAttention with a mask: each function makes the compiled attention for one length of the sequence."""

from collections.abc import Callable
from typing import Any

WINDOW = 8


def causal(tokens: int) -> Callable[..., Any]:
    return _masked(tokens, lambda b, h, i, j: i >= j)


def window8(tokens: int) -> Callable[..., Any]:
    """The last eight tokens, oneself among them."""
    return _masked(tokens, lambda b, h, i, j: (i >= j) & (i - j < WINDOW))


def _masked(tokens: int, mask: Callable[..., Any]) -> Callable[..., Any]:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    blocks = create_block_mask(mask, None, None, tokens, tokens, device="cuda")
    compiled = torch.compile(flex_attention)
    return lambda q, k, v: compiled(q, k, v, block_mask=blocks, scale=1.0)
