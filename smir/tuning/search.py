"""The search: forms and chunk sizes by the rule's options first, then the kernels of the best ones, one at a time.

Once form and chunk are fixed, kernels are independent of each other: the product of their options becomes a sum. A
kernel's candidates are next to the best known options, those of the kernels that take most of the time first; they are
compiled in many processes while others are measured in one. What is better is kept at once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from smir.compilation import Compilation
from smir.ir.kernel import Kernel
from smir.ir.tile_program import STEP
from smir.tuning.passes import passes_of
from smir.tuning.problem import Candidate, Problem
from smir.tuning.settings import KernelSetting, Options, Setting, candidate_name, code_of, fingerprint
from smir.tuning.targets import Target
from smir.tuning.trial import FAILED, OK
from smir.tuning.workshop import Workshop

# Part of the budget after which no further form or chunk size is begun.
EXPLORING = 0.55
# Variants that are improved: this many of the fastest, none slower than the fastest by this factor.
IMPROVED, WITHIN = 2, 1.25
# A kernel's share of the whole from which its options matter; what counts as faster.
SHARE, FASTER = 0.02, 0.98
# What kernels of the rule's options are worth: more than any candidate.
FIRST = 1e9
# How much of its kernel's time a later neighbour is worth.
DISCOUNT = 0.9
Place = tuple[str, str]
Chosen = dict[Place, Options]


@dataclass
class Variant:
    """One form and chunk size: the options found so far, and what they take in milliseconds."""

    form: str
    chunk: int
    usual: Mapping[Place, Options]
    kernels: Mapping[Place, Kernel]
    usual_ms: float = float("inf")
    whole: float = float("inf")
    chosen: Chosen = field(default_factory=dict)
    times: dict[Place, float] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)

    def candidate(self, place: Place | None = None, options: Options | None = None) -> Candidate:
        """What is known, with other options of one kernel."""
        chosen = {**self.chosen, **({place: options} if place and options else {})}
        sides: dict[str, dict[str, Options]] = {}
        for (side, name), own in chosen.items():
            sides.setdefault(side, {})[name] = own
        return Candidate(self.form, self.chunk, sides, place)

    def setting(self) -> Setting:
        changed = [(self.kernels[p], o) for p, o in sorted(self.chosen.items()) if o != self.usual[p]]
        own = tuple(KernelSetting(k.name, fingerprint(k), o) for k, o in changed)
        return Setting(self.chunk, self.whole, own, code_of(self.kernels.values()))


@dataclass
class Counts:
    """What became of the candidates."""

    measured: int = 0
    slower: int = 0
    refused: int = 0
    quarantined: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Search:
    """`keep(form, setting)` and `quarantine(name, reason)` remember; `known` must not be tried; `settings` are those of
    an earlier search, by form; `report(text)` says what goes on. It stops at `end` (of `time.monotonic`)."""

    done: Compilation
    problem: Problem
    target: Target
    shop: Workshop
    forms: Sequence[str]
    chunk: int | None
    known: Mapping[str, str]
    settings: Mapping[str, Setting]
    keep: Callable[[str, Setting], object]
    quarantine: Callable[[str, str], object]
    report: Callable[[str], object]
    begin: float
    end: float
    counts: Counts = field(default_factory=Counts)
    variants: list[Variant] = field(default_factory=list)

    def run(self) -> list[Variant]:
        """The variants that were measured, the fastest first."""
        planned = [v for form in self.forms for v in self._variants(form)]
        for variant in planned:
            for place in variant.kernels:
                self._compile(variant, place, variant.usual.get(place), float("inf"))
        for variant in planned:
            if (self.variants and self.spent > EXPLORING) or self.left <= 0:
                break
            self._explore(variant)
        self.variants.sort(key=lambda v: v.whole)
        for variant in self.variants[:IMPROVED]:
            if self.target_has_options and variant.whole <= WITHIN * self.variants[0].usual_ms:
                self._improve(variant)
        return sorted(self.variants, key=lambda v: v.whole)

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    @property
    def spent(self) -> float:
        return (time.monotonic() - self.begin) / (self.end - self.begin)

    @property
    def _is_explored(self) -> bool:
        """Whether the time for further forms and chunk sizes is over."""
        return self.left <= 0 or (self.spent > EXPLORING and self.target_has_options)

    @property
    def target_has_options(self) -> bool:
        return any(v.usual for v in self.variants)

    def _variants(self, form: str) -> list[Variant]:
        """A form with its chunk sizes."""
        found = []
        sizes = self.target.chunks(form, self.problem.shape, self.problem.dtype)
        for chunk in sizes if self.chunk is None or form == STEP else (self.chunk,):
            plans = passes_of(self.done, self.problem, form, chunk)
            usual = {
                (side, name): options
                for side, plan in plans.plans.items()
                for name, options in self.target.usual_options(
                    plan, self.problem.shape.sizes, chunk, self.problem.dtype
                ).items()
            }
            if candidate_name(form, chunk) not in self.known:
                found.append(Variant(form, chunk, usual, plans.kernels))
        return found

    # ---- forms and chunks ---------------------------------------------------------------------------------------

    def _explore(self, variant: Variant) -> None:
        self.report(f"{variant.form}, chunk {variant.chunk}")
        for place in variant.kernels if self.shop.compiles else ():
            refused = self._compiled(variant, place, variant.usual[place])
            if refused is not None:
                self.counts.refused += 1
                return
            if self._is_explored:
                return
        outcome = self._try(variant, variant.candidate())
        if outcome is not None:
            variant.times = _places(outcome)
            variant.whole = variant.usual_ms = outcome["whole"]
            self.variants.append(variant)
            self.keep(variant.form, variant.setting())
            self._go_on(variant)

    def _go_on(self, variant: Variant) -> None:
        """From what an earlier search has found, if that still holds."""
        found = self.settings.get(variant.form)
        if found is None or found.chunk != variant.chunk or not found.kernels:
            return
        options = {k.fingerprint: k.options for k in found.kernels}
        known = {p: options[fingerprint(k)] for p, k in variant.kernels.items() if fingerprint(k) in options}
        earlier = replace(variant, chosen=known)
        outcome = self.shop.attempt(earlier.candidate(), self.left)
        if outcome is not None and outcome["kind"] == OK and outcome["whole"] < variant.whole:
            variant.chosen, variant.times, variant.whole = known, _places(outcome), outcome["whole"]

    # ---- kernels ------------------------------------------------------------------------------------------------

    def _improve(self, variant: Variant) -> None:
        pending: dict[tuple[Place, str], tuple[float, Options]] = {}
        for place in variant.kernels:
            self._offer(variant, place, pending)
        while pending and self.left > 0:
            key = self._next(variant, pending)
            if key is None:
                break
            place, (_, options) = key[0], pending.pop(key)
            if self._refused(variant, place, options):
                self.counts.refused += 1
            elif self._better(variant, place, options):
                # what is near the old options and wasn't measured may be near the better ones too
                variant.tried -= {name for where, name in pending if where == place}
                pending = {k: v for k, v in pending.items() if k[0] != place}
                self._offer(variant, place, pending)

    def _offer(self, variant: Variant, place: Place, pending: dict[tuple[Place, str], tuple[float, Options]]) -> None:
        """Options next to the kernel's best ones, as far as they are new and the kernel matters."""
        if variant.times.get(place, 0.0) < SHARE * sum(variant.times.values()):
            return
        kernel = variant.kernels[place]
        best = variant.chosen.get(place, variant.usual[place])
        variant.tried.add(self._name(variant, place, variant.usual[place]))
        for rank, options in enumerate(self.target.moves(kernel, best, self.problem.shape.sizes)):
            name = self._name(variant, place, options)
            if name in variant.tried or name in self.known:
                continue
            variant.tried.add(name)
            worth = variant.times[place] * DISCOUNT**rank
            pending[place, name] = worth, options
            self._compile(variant, place, options, worth)

    def _next(self, variant: Variant, pending: Mapping[tuple[Place, str], tuple[float, Options]]) -> Any:
        """The most promising candidate that is compiled; waits for one. None when the time is over."""
        while self.left > 0:
            ready = [k for k, (_, o) in pending.items() if self.shop.is_compiled(self._job(variant, k[0], o))]
            if ready:
                return max(ready, key=lambda k: pending[k][0])
            if not self.shop.wait(min(self.left, 1.0)):
                return next(iter(pending))  # nobody compiles any more: the trial does
        return None

    def _better(self, variant: Variant, place: Place, options: Options) -> bool:
        """Tries other options of one kernel and keeps them if both the kernel and the whole gain."""
        self.report(f"{variant.form}, chunk {variant.chunk}: {place[1]} {_text(options)}")
        outcome = self._try(variant, variant.candidate(place, options), self._name(variant, place, options))
        if outcome is None:
            return False
        if _places(outcome).get(place, float("inf")) > FASTER * variant.times[place]:
            self.counts.slower += 1
            return False
        found = self._try(variant, _whole(variant.candidate(place, options)), self._name(variant, place, options))
        if found is None or found["whole"] > variant.whole:
            self.counts.slower += 1
            return False
        variant.chosen[place] = options
        variant.times, variant.whole = _places(found), found["whole"]
        self.keep(variant.form, variant.setting())
        return True

    # ---- children -----------------------------------------------------------------------------------------------

    def _try(self, variant: Variant, candidate: Candidate, name: str = "") -> dict[str, Any] | None:
        """The outcome of a trial; None for a candidate that is wrong, fails or brings its process down."""
        name = name or candidate_name(variant.form, variant.chunk)
        outcome = self.shop.attempt(candidate, self.left)
        if outcome is None:  # the time is over
            return None
        self.counts.measured += 1
        if outcome["kind"] == OK:
            return outcome
        if outcome["kind"] == FAILED:  # it doesn't fit, here and now
            self.counts.refused += 1
            return None
        self.counts.quarantined.append((name, outcome["reason"]))
        self.quarantine(name, outcome["reason"])
        return None

    def _compile(self, variant: Variant, place: Place, options: Options | None, worth: float) -> None:
        if options is not None:
            self.shop.compile(self._job(variant, place, options), worth)

    def _refused(self, variant: Variant, place: Place, options: Options) -> str | None:
        return self.shop.refused(self._job(variant, place, options))

    def _compiled(self, variant: Variant, place: Place, options: Options) -> str | None:
        """Waits for a kernel; why it needn't be tried."""
        job = self._job(variant, place, options)
        while not self.shop.is_compiled(job) and not self._is_explored and self.shop.wait(min(self.left, 1.0)):
            pass
        return self.shop.refused(job)

    def _job(self, variant: Variant, place: Place, options: Options) -> Candidate:
        """What is compiled doesn't depend on the other kernels' options."""
        side, name = place
        return Candidate(variant.form, variant.chunk, {side: {name: options}}, place)

    def _name(self, variant: Variant, place: Place, options: Options) -> str:
        return candidate_name(variant.form, variant.chunk, fingerprint(variant.kernels[place]), options)


def _whole(candidate: Candidate) -> Candidate:
    return Candidate(candidate.form, candidate.chunk, candidate.options)


def _places(outcome: Mapping[str, Any]) -> dict[Place, float]:
    return {(side, name): ms for side, own in outcome["kernels"].items() for name, ms in own.items()}


def _text(options: Options) -> str:
    return " ".join(f"{name.removeprefix('num_').lower()}={value}" for name, value in options.items())
