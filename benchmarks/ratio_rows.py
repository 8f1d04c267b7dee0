"""The rows of benchmarks/gpu_ratios.py: what beside whose kernels, at what sizes, how much faster it should be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from smir.bench.peers import GPU, PEERS, Peer, flex
from smir.ir.mixer import Mixer
from smir.tuning.arguments import Shape

HEADS, SIZE = 16, 128
TOKENS = ((4, 4096), (1, 32768))
WINDOW = """mixer softmax_window1024
  const w = 1024
  input q, k: K
  input v: V
  y = softmax(q @ k.T, window(w)) @ v
"""


@dataclass(frozen=True)
class Row:
    """A spec at one choice of dimensions and heads (16 heads, dimensions of 128, but for those named).

    `forward` and `both` are wanted: how many times faster than the peer named `against` (the first, if none is); of a
    row with `beside_floor`, at most how many times the floor. `note` says what the peer does otherwise.
    """

    spec: str
    forward: float | None = None
    both: float | None = None
    against: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    heads: Mapping[str, int] = field(default_factory=dict)
    every_head: int = HEADS
    source: str = ""
    beside_floor: bool = False
    note: str = ""

    @property
    def what(self) -> str:
        """What `smir.compile` takes."""
        return self.source or self.spec

    @property
    def peers(self) -> Mapping[str, Peer]:
        """Those on a GPU, by the short names of their functions."""
        if self.source:
            return {p.short_name: p for p in (flex("window1024"),)}
        return {} if self.beside_floor else {p.short_name: p for p in PEERS[self.spec] if p.device == GPU}

    @property
    def rival(self) -> str:
        """The short name of the peer that is to be beaten."""
        return self.against or next(iter(self.peers), "")

    def shape(self, mixer: Mixer, batch: int, tokens: int, names: Sequence[str]) -> Shape:
        """Of a call with that many sequences and tokens; `names` are the mixer's dimensions."""
        heads = {d.name: self.heads.get(d.name, self.every_head) for d in mixer.inputs}
        return Shape(batch, tokens, heads, {name: self.sizes.get(name, SIZE) for name in names})


def _several(names: str, forward: float, both: float) -> dict[str, Row]:
    return {name: Row(name, forward, both) for name in names.split()}


ONE_GROUP = Row("mamba2_ssd", 2.5, 3.0, sizes={"V": 64}, heads={"B": 1, "C": 1}, every_head=32)
ROWS: Mapping[str, Row] = {
    **_several("linear_attention retnet scalar_decay", 1.3, 1.7),
    "mamba2_ssd": Row("mamba2_ssd", 2.5, 3.0),
    "mamba2_ssd (32 x 64)": ONE_GROUP,
    **_several("gla hgrn2 rwkv6", 1.2, 1.3),
    **_several("delta_rule gated_delta_rule", 2.0, 1.8),
    **_several("kda rwkv7", 1.3, 1.3),
    "mlstm": Row("mlstm", 1.4, 2.0),
    "gsa": Row("gsa", 1.2, 1.3, sizes={"M": 64}),
    "hgrn": Row("hgrn", 2.5, 2.0),
    "rglru": Row("rglru", 2.5, 2.0, note="the scan alone, without gates"),
    "mamba1": Row("mamba1", 3.0, 4.0, sizes={"D": 2048, "N": 16}, every_head=1, beside_floor=True),
    "lion_s": Row("lion_s", 1.6, 1.6, note="two causal passes"),
    "softmax_causal": Row("softmax_causal", 1.0, 1.0, against="torch.causal"),
    "softmax_window1024": Row("softmax_window1024", 1.0, 1.0, source=WINDOW),
    "forgetting_attention": Row("forgetting_attention"),
}  # fmt: skip
