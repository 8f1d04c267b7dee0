"""The tuner's child processes as the tuner sees them: requests in, messages out, ends noticed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

from smir.tuning.problem import Problem

ENDED = "ended"
Message = dict[str, Any]


class Child:
    """A process in a group of its own. Its answers come as messages; the last one is `ended`, with why."""

    def __init__(self, command: list[str], problem: Problem) -> None:
        self.messages: Queue[Message] = Queue()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env={**os.environ, "PYTHONPATH": _search_path()}, start_new_session=True
        )  # fmt: skip
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.send(problem.to_json())

    def send(self, request: Message) -> None:
        """A process that has ended is noticed by its message."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def receive(self, seconds: float) -> Message | None:
        """The next message; None when none comes in time."""
        try:
            return self.messages.get(timeout=max(seconds, 0.0))
        except Empty:
            return None

    def close(self) -> None:
        """Ends the process and what it started. Safe to call again."""
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join()
        for file in (self._process.stdout, self._log):
            if file is not None:
                file.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self.messages.put(json.loads(line))
            except json.JSONDecodeError:  # cut off by its end
                break
        code = self._process.wait()
        self.messages.put({"kind": ENDED, "reason": _ending(code, self._last_words())})

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return " ".join(lines[-2:])[-300:]


def child_command(role: str) -> list[str]:
    return [sys.executable, "-m", "smir.tuning.child", role]


def _search_path() -> str:
    """So that a child imports the package that this process runs."""
    import smir

    home = str(Path(smir.__file__).resolve().parents[1])
    return os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])


def _ending(code: int, words: str) -> str:
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"{how}: {words}" if words else how
