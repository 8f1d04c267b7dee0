"""What the examples with models share: a residual stack of mixers, and a plain training loop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from smir.errors import FormError
from smir.nn import Mixer

State = Mapping[str, Tensor] | None


@dataclass(frozen=True)
class Shape:
    """The size of a model: its widths, and how many blocks."""

    width: int = 64
    heads: int = 4
    layers: int = 2


class Block(nn.Module):  # type: ignore[misc]
    """Mixes along the sequence, then within each token; both are added to what comes in."""

    def __init__(self, spec: str | Path, shape: Shape) -> None:
        super().__init__()
        self.before_mixer, self.before_mlp = nn.RMSNorm(shape.width), nn.RMSNorm(shape.width)
        self.mixer = Mixer(spec, shape.width, shape.heads)
        self.mlp = nn.Sequential(
            nn.Linear(shape.width, 4 * shape.width), nn.GELU(), nn.Linear(4 * shape.width, shape.width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.before_mixer(x))
        return x + self.mlp(self.before_mlp(x))

    def read(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The same for the next part of a sequence, `[B, n, width]`, and the state after it."""
        if self.keeps_tokens:
            y, state = self.mixer.step(self.before_mixer(x), state, inplace=True, several=True)
        else:
            y, state = self.mixer(self.before_mixer(x), state, return_state=True)
        x = x + y
        return x + self.mlp(self.before_mlp(x)), state

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The same for one token, `[B, width]`; the state is overwritten, or grows."""
        y, state = self.mixer.step(self.before_mixer(x), state, inplace=True)
        x = x + y
        return x + self.mlp(self.before_mlp(x)), state

    def new_state(self, capacity: int) -> State:
        """What `read` begins with: room for that many tokens, if the mixer keeps them."""
        return self.mixer.compiled.new_state(capacity) if self.keeps_tokens else None

    @cached_property
    def keeps_tokens(self) -> bool:
        """Whether the mixer's state grows with the sequence, as that of a softmax does."""
        try:
            self.mixer.compiled.new_state()
        except FormError:
            return False
        return True


def stack(spec: str | Path, shape: Shape) -> nn.Sequential:
    """Blocks and a last norm, `[B, T, width] -> [B, T, width]`."""
    return nn.Sequential(*(Block(spec, shape) for _ in range(shape.layers)), nn.RMSNorm(shape.width))


@dataclass
class Curve:
    """Losses by step, with the seconds of training that had passed (without evaluations)."""

    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


def train(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    evaluate: Callable[[], float],
    evaluate_every: int,
    report: Callable[[int, float], None],
) -> Curve:
    """Adam with a short warm-up and a cosine decay to a tenth. `loss(step)` is that of the step's own batch."""
    with one_torch_thread():
        return _train(model, loss, steps, rate, evaluate, evaluate_every, report)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Models this small lose time to torch's threads, which wait for each other and for those of the mixers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    evaluate: Callable[[], float],
    evaluate_every: int,
    report: Callable[[int, float], None],
) -> Curve:
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, steps))
    curve, seconds, recent = Curve(), 0.0, []
    for step in range(steps):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        value = loss(step)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent.append(value.item())  # waits for the device
        seconds += time.perf_counter() - start
        report(step, recent[-1])
        if step == 0 or (step + 1) % evaluate_every == 0 or step + 1 == steps:
            curve.steps.append(step + 1)
            curve.seconds.append(seconds)
            curve.train.append(sum(recent) / len(recent))
            curve.validation.append(evaluate())
            recent = []
    return curve


def rate_at(step: int, steps: int) -> float:
    """The learning rate's factor: up over the first twentieth, then a cosine from 1 to 0.1."""
    warm_up = max(1, steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.55 + 0.45 * math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
