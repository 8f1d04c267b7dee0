"""What a tuner finds, as data: how a form runs best, the kind of calls that it is known for, and its JSON."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from smir.ir.kernel import Kernel, KernelPlan

Options = Mapping[str, int]
# Calls of one token, of few, and of many: form and chunk are known for a class, never for one length.
TOKEN, SHORT, LONG = "token", "short", "long"
LONG_FROM = 512


def length_class(tokens: int) -> str:
    """The class of sequences that this length belongs to."""
    return TOKEN if tokens == 1 else SHORT if tokens < LONG_FROM else LONG


@lru_cache(maxsize=4096)
def fingerprint(kernel: Kernel) -> str:
    """A hash of all that a kernel computes: options are only used for the kernel that they were measured for."""
    from smir.ir.printer import print_ir

    return _digest(print_ir(KernelPlan("kernel", "", (), (), (), (kernel,))))[:16]


def code_of(kernels: Iterable[Kernel]) -> str:
    """A hash of all these kernels."""
    return _digest(" ".join(map(fingerprint, kernels)))[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class KernelSetting:
    """Launch options of one kernel (blocks, warps, stages)."""

    name: str
    fingerprint: str
    options: Options

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "fingerprint": self.fingerprint, "options": dict(self.options)}

    @staticmethod
    def from_json(found: Any) -> "KernelSetting":
        options = {_text(k): _count(v) for k, v in _mapping(found["options"]).items()}
        return KernelSetting(_text(found["name"]), _text(found["fingerprint"]), options)


@dataclass(frozen=True)
class Setting:
    """How one form runs: tokens a chunk, options of the kernels that differ from the rule, milliseconds measured.

    `code` is a hash of all kernels that ran: a time of other kernels isn't worth comparing with.
    """

    chunk: int
    milliseconds: float
    kernels: tuple[KernelSetting, ...] = ()
    code: str = ""

    def options_of(self, plan: KernelPlan) -> dict[str, dict[str, int]]:
        """The options of those of the plan's kernels that are the ones measured, by name."""
        if not self.kernels:
            return {}
        from smir.passes.kernels.joined_outputs import with_joined_outputs

        known = {k.fingerprint: k.options for k in self.kernels}
        kernels = (*plan.kernels, *plan.walks, *with_joined_outputs(plan).kernels)
        return {k.name: dict(known[fingerprint(k)]) for k in kernels if fingerprint(k) in known}

    def to_json(self) -> dict[str, Any]:
        kernels = [k.to_json() for k in self.kernels]
        return {"chunk": self.chunk, "milliseconds": self.milliseconds, "kernels": kernels, "code": self.code}

    @staticmethod
    def from_json(found: Any) -> "Setting":
        milliseconds = found["milliseconds"]
        if not isinstance(milliseconds, (int, float)) or not math.isfinite(milliseconds) or milliseconds <= 0:
            raise ValueError(f"{milliseconds!r} is no time")
        kernels = tuple(map(KernelSetting.from_json, found["kernels"]))
        return Setting(_count(found["chunk"]), float(milliseconds), kernels, _text(found["code"]))


@dataclass(frozen=True)
class Bucket:
    """Calls that one configuration serves. It knows neither the batch, so that a row's result can't depend on the
    other rows, nor the length beyond its class.

    `wanted` are the arguments whose gradients are asked for; `sizes` the dimensions' blocks (powers of two), `heads`
    the next power of two.
    """

    wanted: tuple[str, ...]
    sizes: tuple[tuple[str, int], ...]
    heads: int
    length: str

    def __str__(self) -> str:
        what = f"gradients of {', '.join(self.wanted)}" if self.wanted else "forward"
        sizes = ", ".join(f"{name}={size}" for name, size in self.sizes) or "no dimensions"
        return f"{what}; {sizes}; {self.heads} heads; {self.length} sequences"

    def to_json(self) -> dict[str, Any]:
        return {
            "wanted": list(self.wanted), "sizes": dict(self.sizes), "heads": self.heads, "length": self.length
        }  # fmt: skip

    @staticmethod
    def from_json(found: Any) -> "Bucket":
        if found["length"] not in (TOKEN, SHORT, LONG):
            raise ValueError(f"{found['length']!r} is no class of lengths")
        sizes = tuple(sorted((_text(n), _count(s)) for n, s in _mapping(found["sizes"]).items()))
        return Bucket(tuple(map(_text, found["wanted"])), sizes, _count(found["heads"]), found["length"])


def bucket(wanted: Iterable[str], sizes: Mapping[str, int], heads: int, tokens: int) -> Bucket:
    """The bucket of a call with these sizes of its dimensions (without T)."""
    blocks = tuple(sorted((name, _power(size)) for name, size in sizes.items()))
    return Bucket(tuple(sorted(wanted)), blocks, _power(heads), length_class(tokens))


def _power(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


@dataclass(frozen=True)
class Family:
    """All that is known of one mixer on one device: settings by bucket and form, and what must not be tried again.

    `quarantine` maps a candidate's name to the reason.
    """

    entries: Mapping[Bucket, Mapping[str, Setting]] = field(default_factory=dict)
    quarantine: Mapping[str, str] = field(default_factory=dict)

    def with_setting(self, where: Bucket, form: str, setting: Setting) -> "Family":
        """With this setting, unless a faster one of the same kernels is known."""
        forms = dict(self.entries.get(where, {}))
        known = forms.get(form)
        if known is None or known.code != setting.code or setting.milliseconds < known.milliseconds:
            forms[form] = setting
        return Family({**self.entries, where: forms}, self.quarantine)

    def with_quarantined(self, candidate: str, reason: str) -> "Family":
        return Family(self.entries, {**self.quarantine, candidate: reason})

    def merged(self, other: "Family") -> "Family":
        """Both, the faster of two settings; of those of different kernels the other's."""
        found = Family(self.entries, {**other.quarantine, **self.quarantine})
        for where, forms in other.entries.items():
            for form, setting in forms.items():
                found = found.with_setting(where, form, setting)
        return found

    def to_json(self) -> dict[str, Any]:
        entries = [
            {**where.to_json(), "forms": {form: s.to_json() for form, s in sorted(forms.items())}}
            for where, forms in sorted(self.entries.items(), key=lambda e: str(e[0]))
        ]
        return {"entries": entries, "quarantine": dict(sorted(self.quarantine.items()))}

    @staticmethod
    def from_json(found: Any) -> "Family":
        """Raises KeyError, TypeError or ValueError for what was never written by `to_json`."""
        entries = {
            Bucket.from_json(e): {_text(f): Setting.from_json(s) for f, s in _mapping(e["forms"]).items()}
            for e in found["entries"]
        }
        return Family(entries, {_text(k): _text(v) for k, v in _mapping(found["quarantine"]).items()})


def candidate_name(form: str, chunk: int, kernel: str | None = None, options: Options | None = None) -> str:
    """What a candidate is called in the quarantine: a form and chunk by the rule, or a kernel (by its fingerprint) with
    options."""
    if kernel is None:
        return f"{form} chunk {chunk}"
    chosen = " ".join(f"{k}={v}" for k, v in sorted((options or {}).items()))
    return f"{form} chunk {chunk} {kernel} {chosen}"


def _text(found: Any) -> str:
    if not isinstance(found, str):
        raise ValueError(f"{found!r} is no text")
    return found


def _count(found: Any) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ValueError(f"{found!r} is no positive whole number")
    return found


def _mapping(found: Any) -> Mapping[Any, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{found!r} is no mapping")
    return found
