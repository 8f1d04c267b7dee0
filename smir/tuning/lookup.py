"""What is known for a call: the user's own measurements, then the shipped ones, then nothing."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from smir.compilation import Compilation
from smir.tuning.problem import Problem
from smir.tuning.settings import Bucket, Family, KernelSetting, Setting, bucket, candidate_name, fingerprint
from smir.tuning.shipped import shipped_family
from smir.tuning.store import Identity, Store
from smir.tuning.targets import target

# Set to `off`, the rules alone decide.
SWITCH = "SMIR_TUNING"


@dataclass(frozen=True)
class Found:
    """Settings by form for a call's bucket, and where they come from; `missing` says why there are none."""

    settings: Mapping[str, Setting]
    bucket: Bucket
    origin: str = ""
    missing: str = ""

    def best(self, form: str | None, chunk: int | None, preferred: str) -> tuple[str, Setting] | None:
        """The form and setting for a call that asks for this form and chunk (None: any).

        `preferred` is the cost model's form: one that was never measured may well be the fastest, and stays.
        """
        if form is None and preferred not in self.settings:
            return None
        fitting = {f: s for f, s in self.settings.items() if form in (None, f) and chunk in (None, s.chunk)}
        return min(fitting.items(), key=lambda e: e[1].milliseconds, default=None)


def is_off() -> bool:
    return os.environ.get(SWITCH, "") == "off"


def identity(done: Compilation, problem: Problem) -> Identity:
    """Whose measurements a call may use."""
    import smir

    tuned = target(problem.backend)
    device, compiler = tuned.device(problem.device), tuned.compiler()
    return Identity(mixer_hash(done), problem.backend, problem.dtype, device, compiler, smir.__version__)


def mixer_hash(done: Compilation) -> str:
    """Of what the spec computes; its name doesn't count."""
    from smir.ir.printer import print_ir

    return hashlib.sha256(print_ir(replace(done.spec, name="mixer")).encode()).hexdigest()[:24]


def bucket_of(problem: Problem) -> Bucket:
    return bucket(problem.wanted, problem.shape.sizes, problem.shape.most_heads, problem.shape.tokens)


def find(done: Compilation, problem: Problem, store: Store | None = None) -> Found:
    """What is known for calls like this one. Reads at most two files, and decides by them alone."""
    where = bucket_of(problem)
    if is_off():
        return Found({}, where, missing=f"{SWITCH} is off")
    who = identity(done, problem)
    stored = (store or Store()).read(who)
    own, shipped = stored.family, shipped_family(who)
    for near, family, origin in _by_nearness(where, own, shipped):
        allowed = {f: _allowed(done, f, s, own) for f, s in family.entries[near].items()}
        settings = {f: s for f, s in allowed.items() if s is not None}
        if settings:
            return Found(settings, near, origin)
    problem_text = f"; {stored.path.name} is {stored.problem}" if stored.problem else ""
    return Found({}, where, missing=f"nothing measured on {who.device} for {where}{problem_text}")


def _by_nearness(where: Bucket, own: Family, shipped: Family) -> Iterator[tuple[Bucket, Family, str]]:
    """Measurements that serve this bucket: of the same sizes, lengths and passes. The user's own before shipped ones,
    the same gradients and number of heads before others."""
    for exact in (True, False):
        for family, origin in ((own, "tuned on this machine"), (shipped, "shipped with this version")):
            for near in sorted(family.entries, key=lambda b: _distance(where, b)):
                if _serves(where, near) and (near == where) == exact:
                    yield near, family, origin if exact else f"{origin}, for {near}"


def _serves(where: Bucket, near: Bucket) -> bool:
    return (near.sizes, near.length, bool(near.wanted)) == (where.sizes, where.length, bool(where.wanted))


def _distance(where: Bucket, near: Bucket) -> tuple[int, float, str]:
    others = len(set(where.wanted) ^ set(near.wanted))
    return others, abs(near.heads.bit_length() - where.heads.bit_length()), str(near)


def _allowed(done: Compilation, form: str, setting: Setting, own: Family) -> Setting | None:
    """The setting without what turned out to be wrong on this machine; None where that is the form itself."""
    if form not in done.plans or candidate_name(form, setting.chunk) in own.quarantine:
        return None

    def is_fine(k: KernelSetting) -> bool:
        return candidate_name(form, setting.chunk, k.fingerprint, k.options) not in own.quarantine

    return replace(setting, kernels=tuple(filter(is_fine, setting.kernels)))


def explain_tuning(done: Compilation, problem: Problem, preferred: str) -> list[str]:
    """Why calls like these run as they do, as lines. `preferred` is the form by the cost model."""
    found = find(done, problem)
    best = found.best(None, None, preferred)
    who = f"{problem.backend}, {found.bucket}"
    if best is None:
        why = found.missing or f"{', '.join(found.settings)} measured, but not {preferred}"
        return [f"tuning for {who}: none, the rules decide ({why})"]
    form, setting = best
    lines = [f"tuning for {who}: {form}, chunk {setting.chunk}, {setting.milliseconds:.3f} ms ({found.origin})"]
    others = sorted(found.settings.items(), key=lambda e: e[1].milliseconds)
    lines += [f"  {f}, chunk {s.chunk}: {s.milliseconds:.3f} ms" for f, s in others if f != form]
    current = {fingerprint(k) for p in (done.plans[form],) for k in (*p.kernels, *p.walks)}
    for k in setting.kernels:
        options = " ".join(f"{name}={value}" for name, value in k.options.items())
        lines.append(f"  {k.name}: {options}")
    if not found.bucket.wanted and any(k.fingerprint not in current for k in setting.kernels):
        lines.append("  some of these kernels have changed since: the rule decides about them")
    return lines
