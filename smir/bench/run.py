"""The measurements of `smir bench`: ours and every peer's, one after the other, on the same inputs."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from smir.bench.ceilings import Ceilings, measure_ceilings
from smir.bench.floors import BOTH, DECODE, FORWARD, floor
from smir.bench.peers import Peer, peers_of
from smir.errors import ArgumentError, SmirError
from smir.tuning.arguments import Shape, draw_tensors
from smir.tuning.lookup import mixer_hash
from smir.tuning.problem import Problem
from smir.tuning.targets import target

if TYPE_CHECKING:
    from smir.compiled import CompiledMixer

OURS = "smir"
KINDS = (FORWARD, BOTH, DECODE)
Tensors = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one implementation; `first_seconds` is what its first call took more: compiling, and where a
    library searches for its options, searching. `difference` is the RMS of its output's difference from ours."""

    what: str
    who: str
    batch: int
    tokens: int
    milliseconds: float | None = None
    first_seconds: float | None = None
    limit: float = 0.0
    difference: float | None = None
    error: str | None = None

    @property
    def of_limit(self) -> float | None:
        """The device's limit as a part of the time: 1 can't be beaten."""
        return None if self.milliseconds is None else self.limit / self.milliseconds


@dataclass(frozen=True)
class BenchReport:
    """All timings of one run."""

    mixer: str
    calls: str
    ceilings: Ceilings
    timings: tuple[Timing, ...] = field(default=())

    def of_best_peer(self, t: Timing) -> float | None:
        """The time as a multiple of the best peer's, for the same problem: below 1 is faster."""
        others = [o.milliseconds for o in self.timings
                  if (o.what, o.batch, o.tokens) == (t.what, t.batch, t.tokens) and o.who != OURS
                  and o.milliseconds is not None]  # fmt: skip
        return t.milliseconds / min(others) if others and t.milliseconds is not None else None

    def to_json(self) -> dict[str, Any]:
        rows = [{**asdict(t), "of_limit": t.of_limit, "of_best_peer": self.of_best_peer(t)} for t in self.timings]
        return {"mixer": self.mixer, "calls": self.calls, "ceilings": self.ceilings.to_json(), "rows": rows}


def wanted_kinds(text: str) -> tuple[str, ...]:
    """`forward,training,decode` as kinds of measurement. Raises ArgumentError for others."""
    for name in text.split(","):
        if name not in KINDS:
            raise ArgumentError(f"nothing is called {name!r}", hint=f"with commas: {', '.join(KINDS)}")
    return tuple(text.split(","))


def bench(
    mixer: "CompiledMixer",
    problems: Sequence[Problem],
    packages: set[str] | None = None,
    kinds: Sequence[str] = KINDS,
    report: Callable[[str, float], object] = lambda text, part: None,
) -> BenchReport:
    """Times a mixer at the shapes of these problems (all on one device, of one type). `packages` names the peers'
    packages (None: all that are installed). Raises ArgumentError where there is nothing to do."""
    if not problems or any(kind not in KINDS for kind in kinds):
        raise ArgumentError("nothing to measure", hint=f"shapes, and some of {', '.join(KINDS)}")
    first = problems[0]
    seconds = target(first.backend).seconds
    report("the device's ceilings", 0.0)
    ceilings = measure_ceilings(first.device, first.dtype, seconds)
    found: list[Timing] = []
    for number, problem in enumerate(problems):
        run = _Run(mixer, problem, ceilings, seconds)
        for timing in run.timings(packages, kinds):
            report(f"{timing.who}, {timing.what}, {timing.tokens} tokens", number / len(problems))
            found.append(timing)
    sizes = ", ".join(f"{n}={s}" for n, s in first.shape.sizes.items())
    return BenchReport(
        mixer.spec.name, f"{first.dtype}, {first.shape.most_heads} heads, {sizes}", ceilings, tuple(found)
    )


@dataclass(frozen=True)
class _Run:
    """One problem."""

    mixer: "CompiledMixer"
    problem: Problem
    ceilings: Ceilings
    seconds: Callable[[Callable[[], object]], float]

    def timings(self, packages: set[str] | None, kinds: Sequence[str]) -> Iterator[Timing]:
        inputs = _leaves(self._draw(self.problem.shape))
        calls: list[tuple[str, Callable[[Tensors], Any], Tensors, bool]] = []
        calls.append((OURS, lambda x: self.mixer(**x), inputs, True))
        for peer in self._peers(packages):
            theirs = _leaves(peer.arguments(inputs))
            calls.append((peer.short_name, _lazily(peer, self.problem.shape.tokens), theirs, peer.same))
        ours = None
        for who, call, own, same in calls:
            try:
                first, y = _first(call, own, BOTH in kinds, self.problem.device)
                ours = y if who == OURS else ours
                difference = _difference(y, ours) if who != OURS and same else None
                for what in (k for k in kinds if k != DECODE):
                    yield self._timing(what, who, call, own, y, first, difference)
            except (ImportError, RuntimeError, AssertionError, TypeError, ValueError, SmirError) as error:
                if who == OURS:
                    raise
                yield self._row(kinds[0], who, error=f"{type(error).__name__}: {str(error)[:200]}")
        if DECODE in kinds and self.mixer.spec.states:
            yield self._decoding()

    def _peers(self, packages: set[str] | None) -> tuple[Peer, ...]:
        """Those of the library's spec of this name, if ours computes what that says."""
        from smir.compiled import compile as compile_mixer
        from smir.specs import library_names

        name = self.mixer.spec.name
        if name not in library_names() or mixer_hash(compile_mixer(name).compilation) != mixer_hash(
            self.mixer.compilation
        ):
            return ()
        return peers_of(name, self.problem.device, packages)

    def _timing(self, what: str, who: str, call: Callable[[Tensors], Any], inputs: Tensors, y: Any, first: float,
                difference: float | None) -> Timing:  # fmt: skip
        import torch

        seed = torch.ones_like(y)

        def forward() -> None:
            with torch.no_grad():
                call(inputs)

        def both() -> None:
            for x in inputs.values():
                x.grad = None
            call(inputs).backward(seed)

        run = forward if what == FORWARD else both
        run()
        milliseconds = 1e3 * self.seconds(run)
        return self._row(what, who, milliseconds, max(first - milliseconds / 1e3, 0.0), difference)

    def _decoding(self) -> Timing:
        """One token after another, from the state after a few."""
        shape = Shape(self.problem.shape.batch, 1, self.problem.shape.heads, self.problem.shape.sizes)
        inputs = self._draw(shape)
        declared = {d.name for d in self.mixer.spec.inputs}
        token = {n: x[:, 0] if n in declared else x for n, x in inputs.items()}
        begin = time.perf_counter()
        _, state = self.mixer.step(**token)
        first = time.perf_counter() - begin
        _, state = self.mixer.step(**token, state=state)
        return self._row(DECODE, OURS, 1e3 * self.seconds(lambda: self.mixer.step(**token, state=state)), first)

    def _row(self, what: str, who: str, milliseconds: float | None = None, first: float | None = None,
             difference: float | None = None, error: str | None = None) -> Timing:  # fmt: skip
        least = floor(self.mixer.compilation, self.problem.shape, self.problem.dtypes, what)
        limit = 1e3 * least.seconds(self.ceilings.bytes_per_second, self.ceilings.flops_per_second)
        shape = self.problem.shape
        return Timing(what, who, shape.batch, shape.tokens, milliseconds, first, limit, difference, error)

    def _draw(self, shape: Shape) -> Tensors:
        return draw_tensors(self.mixer.spec, shape, self.problem.dtypes, self.problem.device)


def _lazily(peer: Peer, tokens: int) -> Callable[[Tensors], Any]:
    """Imported when it is first called, so that this counts as its first call."""
    made: list[Callable[[Tensors], Any]] = []

    def call(x: Tensors) -> Any:
        if not made:
            made.append(peer.call(tokens))
        return made[0](x)

    return call


def _leaves(inputs: Mapping[str, Any]) -> Tensors:
    """Tensors of which each collects a gradient of its own."""
    return {name: x.detach().requires_grad_() for name, x in inputs.items()}


def _first(call: Callable[[Tensors], Any], inputs: Tensors, both: bool, device: str) -> tuple[float, Any]:
    """Seconds of the first call, with a backward pass if that will be measured, and y."""
    import torch

    begin = time.perf_counter()
    y = call(inputs)
    if both:
        y.backward(torch.ones_like(y))
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begin, y.detach()


def _difference(theirs: Any, ours: Any) -> float:
    """RMS of the difference relative to the RMS of ours."""
    ours, theirs = ours.float(), theirs.float()
    return float((theirs.reshape(ours.shape) - ours).norm() / ours.norm())
