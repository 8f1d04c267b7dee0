"""Where candidates are compiled and tried: child processes that are replaced when they break."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

from smir.errors import BackendError
from smir.tuning.child import COMPILE, READY, TRY
from smir.tuning.children import ENDED, Child, Message, child_command
from smir.tuning.problem import Candidate, Problem

# Seconds until a process must have answered: the first trial pays for imports, device and truth.
FIRST_SECONDS, TRIAL_SECONDS = 120.0, 30.0
# Kernels handed to the compiling processes at once, for each core: better ones may still come first.
AT_ONCE = 2


def start(role: str, problem: Problem) -> Child:
    return Child(child_command(role), problem)


@dataclass
class Workshop:
    """One process that tries, and where `compiled_for` is known one that compiles with all cores."""

    problem: Problem
    compiled_for: str | None
    start: Callable[[str, Problem], Child] = start
    _trier: Child | None = None
    _used: bool = False
    _ready: bool = False
    _compiler: Child | None = None
    _numbers: dict[int, str] = field(default_factory=dict)
    _waiting: list[tuple[float, int, Candidate]] = field(default_factory=list)
    _found: dict[str, str | None] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _count: Any = field(default_factory=count)

    def open(self) -> None:
        """Starts both, so that they get ready side by side."""
        self._begin()
        if self.compiled_for is not None:
            self._compiler = self.start(COMPILE, self.problem)

    def _begin(self) -> None:
        self._trier, self._used, self._ready = self.start(TRY, self.problem), False, False

    def close(self) -> None:
        for child in (self._trier, self._compiler):
            if child is not None:
                child.close()
        self._trier = self._compiler = None

    # ---- trying -------------------------------------------------------------------------------------------------

    def attempt(self, candidate: Candidate, left: float) -> Message | None:
        """What came of a trial: `ended` where the process broke or didn't answer, None when `left` seconds are over.

        Raises BackendError when the process can't even begin: that is no candidate's fault.
        """
        if self._trier is None:
            self._begin()
        assert self._trier is not None
        limit = TRIAL_SECONDS if self._used else FIRST_SECONDS
        stop = time.monotonic() + min(limit, left)
        self._trier.send(candidate.to_json())
        message = self._answer(stop)
        if message is None and left > limit:
            message = {"kind": ENDED, "reason": f"no answer in {limit:.0f} s"}
        if message is None or message["kind"] in (ENDED, "crashed"):
            self._trier.close()
            self._trier = None
        self._used = self._trier is not None
        return message

    def _answer(self, stop: float) -> Message | None:
        assert self._trier is not None
        while True:
            message = self._trier.receive(stop - time.monotonic())
            if message is not None and message["kind"] == READY["kind"]:
                self._ready = True
                continue
            if message is not None and message["kind"] == ENDED and not self._ready:
                raise BackendError(f"a trial can't begin: its process {message['reason']}",
                                   hint="is the device free, and is there memory?")  # fmt: skip
            return message

    # ---- compiling ----------------------------------------------------------------------------------------------

    @property
    def compiles(self) -> bool:
        return self._compiler is not None

    def compile(self, job: Candidate, worth: float) -> None:
        """Asks for a kernel; those that are worth more come first."""
        if self._compiler is None or _key(job) in self._asked:
            return
        self._asked.add(_key(job))
        heappush(self._waiting, (-worth, next(self._count), job))
        self._hand_out()

    def drop_waiting(self) -> None:
        """Forgets what nobody has begun."""
        self._asked -= {_key(job) for _, _, job in self._waiting}
        self._waiting.clear()

    def is_compiled(self, job: Candidate) -> bool:
        """Whether it has come back, or nobody compiles."""
        self._collect(0.0)
        return self._compiler is None or _key(job) in self._found

    def refused(self, job: Candidate) -> str | None:
        """Why a compiled kernel needn't be tried."""
        return self._found.get(_key(job))

    def wait(self, seconds: float) -> bool:
        """Waits for the next kernel; False when none is under way."""
        if self._compiler is None or not self._numbers:
            return False
        self._collect(seconds)
        return True

    def _hand_out(self) -> None:
        while self._compiler is not None and self._waiting and len(self._numbers) < AT_ONCE * (os.cpu_count() or 1):
            _, number, job = heappop(self._waiting)
            self._numbers[number] = _key(job)
            self._compiler.send({"number": number, "candidate": job.to_json(), "target": self.compiled_for})

    def _collect(self, seconds: float) -> None:
        """Takes in what is compiled; without a process for it everything counts as compiled."""
        while self._compiler is not None:
            message = self._compiler.receive(seconds)
            if message is None:
                break
            if message["kind"] == ENDED:
                self._compiler.close()
                self._compiler = None
                break
            if message["kind"] != READY["kind"]:
                failed = message["reason"] if message["kind"] == "failed" else message["refused"]
                self._found[self._numbers.pop(message["number"])] = failed
                seconds = 0.0
        self._hand_out()


def _key(job: Candidate) -> str:
    return json.dumps(job.to_json(), sort_keys=True)
