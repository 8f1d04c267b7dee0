"""The kernels of flash-linear-attention beside which training times are given: `pip install fla-core`."""

from collections.abc import Mapping

from smir.bench.peers import GPU, Peer, has_peers
from smir.bench.peers import PEERS as ALL

__all__ = ["PEERS", "Peer", "has_peers"]

TRAINED = tuple("linear_attention retnet scalar_decay gla rwkv6 rwkv7 delta_rule gated_delta_rule kda".split())
PEERS: Mapping[str, Peer] = {
    name: next(p for p in ALL[name] if p.package == "fla" and p.device == GPU) for name in TRAINED
}
