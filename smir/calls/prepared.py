"""What a call's shapes, types and devices settle, so that the second call of the same kind decides nothing again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smir.calls.array_kinds import has_modes, is_recording, signature
from smir.calls.binding import Fit
from smir.calls.execution import Runner
from smir.calls.packing import any_length

Key = tuple[Any, ...]
# Kinds of calls that a mixer remembers: training and evaluation at a few lengths are far fewer.
LIMIT = 64


@dataclass(frozen=True)
class PreparedCall:
    """How the arguments become canonical arrays and the results the caller's, and what runs in between.

    It holds no array. Strides, values and the memory's place may differ from call to call.
    """

    fit: Fit
    run: Runner


@dataclass
class PreparedCalls:
    """The prepared calls of one mixer by their key; all are forgotten when there are too many."""

    known: dict[Key, PreparedCall] = field(default_factory=dict)

    def find(self, key: Key | None) -> PreparedCall | None:
        return None if key is None else self.known.get(key)

    def forget(self) -> None:
        """What was decided may be decided anew."""
        self.known.clear()

    def keep(self, key: Key | None, call: PreparedCall) -> None:
        if key is None:
            return
        if len(self.known) >= LIMIT:
            self.known.clear()
        self.known[key] = call


def call_key(
    backend: str | None, given: Mapping[str, Any], states: Mapping[str, Any], cu_seqlens: Any = None
) -> Key | None:
    """Equal for calls that one preparation suits; None for arguments that must be looked at every time, and
    for calls that something traces.

    `given` are all arguments in the order of declaration, `states` the initial states that the caller gave. How many
    packed sequences there are matters to the states alone.
    """
    if has_modes():
        return None
    signatures = (*map(signature, given.values()), *map(signature, states.values()))
    if cu_seqlens is not None:
        signatures = (*signatures, signature(cu_seqlens) if states else any_length(signature(cu_seqlens)))
    return None if None in signatures else (backend, is_recording(), *states, *signatures)
