"""Kernels of other people that compute the same mixer: those are measured that can be imported.

Each gets the very inputs that ours gets, in the same types. Scales of queries by K^-1/2 are switched off.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from smir.bench import torch_loops

Tensors = dict[str, Any]
GPU, CPU = "cuda", "cpu"


@dataclass(frozen=True)
class Peer:
    """`function` of `module`, with the keywords that `arguments` makes of a spec's own arguments.

    `same` says whether it computes the spec's very output, so that the two can be compared; `result` makes it of what
    the function returns; `device` is where it runs. A function whose `made` is true makes the function to call, of the
    length of the sequence. `needs` names the package that a function of ours calls. With `bare` the module is imported
    without its package's own `__init__`, which asks for more than was installed.
    """

    module: str
    function: str
    arguments: Callable[[Tensors], Tensors]
    options: Mapping[str, Any] = field(default_factory=lambda: {"scale": 1.0})
    same: bool = True
    device: str = GPU
    result: Callable[[Any], Any] = lambda y: y[0] if isinstance(y, tuple) else y
    made: bool = False
    needs: str = ""
    bare: bool = False

    @property
    def package(self) -> str:
        return self.needs or self.module.partition(".")[0]

    @property
    def name(self) -> str:
        return f"{self.module}.{self.function}"

    @property
    def short_name(self) -> str:
        """For tables."""
        return f"{'torch' if self.package == 'smir' else self.package}.{self.function}"

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def load(self) -> Callable[..., Any]:
        """The function as its package has it. Raises ImportError without the package."""
        with warnings.catch_warnings():  # some warn of what this machine has not
            warnings.simplefilter("ignore")
            if self.bare:
                _import_bare(self.package)
            function: Callable[..., Any] = getattr(importlib.import_module(self.module), self.function)
            if self.package == "fla" and self.device == GPU:
                # Some gated backward kernels refuse to run on Hopper with Triton below 3.7.1, where their gradients
                # were wrong. Here only their time counts.
                importlib.import_module("fla.ops.common.chunk_o").TRITON_ABOVE_3_7_1 = True  # type: ignore[attr-defined]
        return function

    def call(self, tokens: int = 0) -> Callable[[Tensors], Any]:
        """The function from its own arguments to y. Raises ImportError without the package."""
        function = self.load()
        run = function(tokens) if self.made else function
        return lambda x: self.result(run(**x, **self.options))


def _import_bare(package: str) -> None:
    """Makes a package's modules importable without running what the package itself runs at import."""
    if package not in sys.modules and (found := importlib.util.find_spec(package)) is not None:
        sys.modules[package] = importlib.util.module_from_spec(found)


def peers_of(mixer: str, device: str, wanted: set[str] | None = None) -> tuple[Peer, ...]:
    """Those of a library spec that run on this device (`cpu`, `cuda:0`) and are installed; `wanted` names packages
    (None: all)."""
    found = PEERS.get(mixer, ())
    return tuple(p for p in found if device.startswith(p.device) and (wanted is None or _is_wanted(p, wanted))
                 and p.is_installed)  # fmt: skip


def _is_wanted(peer: Peer, wanted: set[str]) -> bool:
    return peer.short_name.partition(".")[0] in wanted


def named(*names: str, **others: str) -> Callable[[Tensors], Tensors]:
    """Arguments by the peer's names: the same as ours, or `theirs=ours`."""
    renamed = {**dict(zip(names, names, strict=True)), **others}
    return lambda x: {theirs: x[ours] for theirs, ours in renamed.items()}


# ---- layouts ----------------------------------------------------------------------------------------------------


def _rwkv7(x: Tensors) -> Tensors:
    """Its erase vectors are -kk and kk * a."""
    return {**{n: x[n] for n in "rwkv"}, "a": -x["kk"], "b": x["kk"] * x["a"]}


def _hgrn2(x: Tensors) -> Tensors:
    """Keys are what the decay forgets."""
    return {"q": x["q"], "k": (1 - x["g"].float().exp()).to(x["g"].dtype), "v": x["v"], "g": x["g"]}


def _heads_first(*names: str, **others: str) -> Callable[[Tensors], Tensors]:
    """`[B, T, H, ..]` as `[B, H, T, ..]`, in that order in memory."""
    pick = named(*names, **others)
    return lambda x: {name: a.transpose(1, 2).contiguous() for name, a in pick(x).items()}


def _mlstm(x: Tensors) -> Tensors:
    """Gates in float32: with bfloat16 ones their kernels don't compile on Hopper (an assertion of LLVM fails)."""
    theirs = _heads_first("q", "k", "v", "i", "f")(x)
    return {**theirs, "i": theirs["i"].float(), "f": theirs["f"].float()}


def _heads_back(y: Any) -> Any:
    y = y[0] if isinstance(y, tuple) else y
    return y.transpose(1, 2)


def _one_channel_axis(x: Tensors) -> Tensors:
    """Heads and their channels are one axis."""
    return {name: x[name].flatten(2) for name in ("x", "g")}


def _rglru_scan(x: Tensors) -> Tensors:
    """A scan alone, whose decays are given: gates and their scale are left to others."""
    return {"x": x["x"].flatten(2), "g": -8.0 * x["r"].float().sigmoid().flatten(2).to(x["r"].dtype)}


def _channels_last(x: Tensors) -> Tensors:
    """Mamba-1 wants channels before time, and no heads."""
    u, delta = (x[n].flatten(2).transpose(1, 2) for n in ("u", "delta"))
    B, C = (x[n].transpose(1, 2).transpose(2, 3).contiguous() for n in "BC")
    return {"u": u, "delta": delta, "A": x["A"].float().flatten(0, 1), "B": B, "C": C, "D": x["D"].float().flatten()}


def _unscaled(names: Callable[[Tensors], Tensors]) -> Callable[[Tensors], Tensors]:
    """For a function that multiplies queries by K^-1/2, whatever one asks."""
    return lambda x: {n: a * a.shape[-1] ** 0.5 if n == "q" else a for n, a in names(x).items()}


# ---- who computes what ------------------------------------------------------------------------------------------


def _naive(module: str, function: str, arguments: Callable[[Tensors], Tensors], **options: Any) -> Peer:
    """A reference that goes token by token, on any device; measured on a CPU."""
    return Peer(f"fla.ops.{module}.naive", function, arguments, options, device=CPU)


def _loop(function: str, *names: str) -> Peer:
    return Peer(torch_loops.__name__, function, named(*names), {}, device=CPU)


def _attention(function: str, **options: Any) -> Peer:
    return Peer("torch.nn.functional", function, _heads_first(query="q", key="k", value="v"),
                {"scale": 1.0, **options}, result=_heads_back)  # fmt: skip


def flex(mask: str, device: str = GPU) -> Peer:
    """One of the functions that make attention for a length (smir/bench/flex.py)."""
    return Peer("smir.bench.flex", mask, _heads_first("q", "k", "v"), {}, result=_heads_back, made=True, device=device)


FLASH = "scaled_dot_product_attention"
PEERS: Mapping[str, tuple[Peer, ...]] = {
    "linear_attention": (
        Peer("fla.ops.linear_attn", "chunk_linear_attn", named("q", "k", "v"), {"scale": 1.0, "normalize": False}),
        _naive("linear_attn", "naive_recurrent_linear_attn", named("q", "k", "v"), scale=1.0),
        _loop("linear_attention", "q", "k", "v"),
    ),
    # its decays are fixed numbers, one a head
    "retnet": (Peer("fla.ops.retention", "chunk_retention", named("q", "k", "v"), same=False),),
    "scalar_decay": (
        Peer("fla.ops.simple_gla", "chunk_simple_gla", named("q", "k", "v", "g")),
        _naive("simple_gla", "naive_recurrent_simple_gla", named("q", "k", "v", "g"), scale=1.0),
        _loop("scalar_decay", "q", "k", "v", "g"),
    ),
    "gla": (
        Peer("fla.ops.gla", "chunk_gla", named("q", "k", "v", "g")),
        _naive("gla", "naive_recurrent_gla", _unscaled(named("q", "k", "v", gk="g"))),
        _loop("gla", "q", "k", "v", "g"),
    ),
    "rwkv6": (Peer("fla.ops.rwkv6", "chunk_rwkv6", named("k", "v", "w", "u", r="q")),),
    "rwkv7": (Peer("fla.ops.rwkv7", "chunk_rwkv7", _rwkv7),),
    "delta_rule": (Peer("fla.ops.delta_rule", "chunk_delta_rule", named("q", "k", "v", "beta")),),
    "gated_delta_rule": (
        Peer("fla.ops.gated_delta_rule", "chunk_gated_delta_rule", named("q", "k", "v", "g", "beta")),
        Peer("flash_qla", "chunk_gated_delta_rule", named("q", "k", "v", "g", "beta")),
        _naive("gated_delta_rule", "naive_recurrent_gated_delta_rule", named("q", "k", "v", "beta", "g"), scale=1.0),
        _loop("gated_delta_rule", "q", "k", "v", "g", "beta"),
    ),
    "kda": (
        Peer("fla.ops.kda", "chunk_kda", named("q", "k", "v", "g", "beta")),
        _naive("kda", "naive_recurrent_kda", named("q", "k", "v", "g", "beta"), scale=1.0),
    ),
    "hgrn2": (Peer("fla.ops.gla", "chunk_gla", _hgrn2),),
    "hgrn": (Peer("fla.ops.hgrn", "chunk_hgrn", _one_channel_axis, {}),),
    "rglru": (Peer("fla.ops.hgrn", "chunk_hgrn", _rglru_scan, {}, same=False),),
    # nobody has it: as many causal passes as there are directions, without turning anything around
    "lion_s": (
        Peer("smir.bench.two_passes", "twice_chunk_simple_gla", named("q", "k", "v", "g"), {}, same=False, needs="fla"),
    ),
    "gsa": (Peer("fla.ops.gsa", "chunk_gsa", named("q", "k", "v", "s", "g")),),
    "mamba2_ssd": (
        Peer("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined", named("x", "dt", "A", "B", "C", "D"),
             {"chunk_size": 256}, bare=True),
    ),
    "mamba1": (Peer("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn", _channels_last, {},
                    result=lambda y: y.transpose(1, 2)[:, :, None]),),
    # theirs scales keys by K^-1/2
    "mlstm": (
        Peer("mlstm_kernels.torch.chunkwise.triton_xl_chunk", "mlstm_chunkwise__xl_chunk",
             _mlstm, {"chunk_size": 128}, same=False, result=_heads_back),
    ),
    "forgetting_attention": (
        Peer("fla.ops.forgetting_attn", "parallel_forgetting_attn", named("q", "k", "v", "g")),
        _naive("attn", "naive_parallel_attn", named("q", "k", "v", "g"), scale=1.0),
    ),
    "softmax_causal": (
        _attention(FLASH, is_causal=True),
        flex("cudnn"),
        flex("causal"),
        Peer("fla.ops.attn", "parallel_attn", named("q", "k", "v")),
        Peer("torch.nn.functional", FLASH, _heads_first(query="q", key="k", value="v"),
             {"scale": 1.0, "is_causal": True}, result=_heads_back, device=CPU),
    ),
    "softmax_full": (
        _attention(FLASH),
        Peer("torch.nn.functional", FLASH, _heads_first(query="q", key="k", value="v"), {"scale": 1.0},
             result=_heads_back, device=CPU),
    ),
    "softmax_gqa": (_attention(FLASH, is_causal=True, enable_gqa=True),),
    "softmax_window8": (flex("window8"),),
}  # fmt: skip
