"""Kernels of other people that compute the same mixer, for times beside ours: `pip install fla-core`.

Each gets the inputs that ours gets, in the same type. Its scale of K^-1/2 is switched off.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Tensors = dict[str, Any]


def has_peers() -> bool:
    """Whether flash-linear-attention is installed."""
    return importlib.util.find_spec("fla") is not None


@dataclass(frozen=True)
class Peer:
    """`function` of `module`, with the keywords that `arguments` makes of a spec's own arguments.

    `same` says whether it computes the spec's very output, so that the two can be compared.
    """

    module: str
    function: str
    arguments: Callable[[Tensors], Tensors]
    options: Mapping[str, Any] = field(default_factory=lambda: {"scale": 1.0})
    same: bool = True

    @property
    def name(self) -> str:
        return f"{self.module}.{self.function}"

    def call(self) -> Callable[[Tensors], Any]:
        """The function from its own arguments to y. Raises ImportError without the package."""
        function = getattr(importlib.import_module(self.module), self.function)
        # Some gated backward kernels refuse to run on Hopper with Triton below 3.7.1, where their gradients were wrong.
        # Here only their time counts.
        importlib.import_module("fla.ops.common.chunk_o").TRITON_ABOVE_3_7_1 = True  # type: ignore[attr-defined]

        def run(x: Tensors) -> Any:
            y = function(**x, **self.options)
            return y[0] if isinstance(y, tuple) else y

        return run


def named(*names: str, **others: str) -> Callable[[Tensors], Tensors]:
    """Arguments by the peer's names: the same as ours, or `theirs=ours`."""
    renamed = {**dict(zip(names, names, strict=True)), **others}
    return lambda x: {theirs: x[ours] for theirs, ours in renamed.items()}


def _rwkv7(x: Tensors) -> Tensors:
    """Its erase vectors are -kk and kk * a."""
    return {**{n: x[n] for n in "rwkv"}, "a": -x["kk"], "b": x["kk"] * x["a"]}


PEERS: Mapping[str, Peer] = {
    "linear_attention": Peer("fla.ops.linear_attn", "chunk_linear_attn", named("q", "k", "v"),
                             {"scale": 1.0, "normalize": False}),
    # its decays are fixed numbers, one a head
    "retnet": Peer("fla.ops.retention", "chunk_retention", named("q", "k", "v"), same=False),
    "scalar_decay": Peer("fla.ops.simple_gla", "chunk_simple_gla", named("q", "k", "v", "g")),
    "gla": Peer("fla.ops.gla", "chunk_gla", named("q", "k", "v", "g")),
    "rwkv6": Peer("fla.ops.rwkv6", "chunk_rwkv6", named("k", "v", "w", "u", r="q")),
    "rwkv7": Peer("fla.ops.rwkv7", "chunk_rwkv7", _rwkv7),
    "delta_rule": Peer("fla.ops.delta_rule", "chunk_delta_rule", named("q", "k", "v", "beta")),
    "gated_delta_rule": Peer("fla.ops.gated_delta_rule", "chunk_gated_delta_rule", named("q", "k", "v", "g", "beta")),
    "kda": Peer("fla.ops.kda", "chunk_kda", named("q", "k", "v", "g", "beta")),
}  # fmt: skip
