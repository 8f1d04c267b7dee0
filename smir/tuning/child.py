"""A child process of the tuner: reads one request a line, answers one line. It ends when its parent does.

    python -m smir.tuning.child try|compile

The first line is the problem. `try` runs and measures candidates; `compile` makes kernels ready for that in processes
of its own, and says what they take of a GPU.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TextIO

from smir.tuning.problem import Candidate, Problem

READY = {"kind": "ready"}
TRY, COMPILE = "try", "compile"
# After this exit code a process whose device can't be used any more is no surprise.
LOST = 17


def main(role: str) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    requests = _requests()
    problem = Problem.from_json(next(requests))
    if role == TRY:
        _try(problem, requests, answers)
    else:
        _compile(problem, requests, answers)


def _requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def _answer(answers: TextIO, found: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(found) + "\n")
        answers.flush()
    except BrokenPipeError:  # nobody waits for it
        os._exit(0)


def _try(problem: Problem, requests: Iterator[dict[str, Any]], answers: TextIO) -> None:
    from smir.tuning.trial import Bench

    bench = Bench(problem)
    bench.get_ready()
    _answer(answers, READY)
    for request in requests:
        try:
            found = bench.attempt(Candidate.from_json(request))
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
                _answer(answers, {"kind": "failed", "reason": "out of memory"})
                continue
            _answer(answers, {"kind": "crashed", "reason": f"{type(error).__name__}: {str(error)[:500]}"})
            os._exit(LOST)  # a device that met an error can't be trusted, nor its shutdown awaited
        _answer(answers, found.to_json())


def _compile(problem: Problem, requests: Iterator[dict[str, Any]], answers: TextIO) -> None:
    """Answers come as they are ready."""
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing import get_context
    from threading import Lock

    from smir.tuning.precompile import Compiler

    os.nice(10)  # what is being measured needs its core
    compiler, lock = Compiler(problem), Lock()
    _WORK.append(compiler.compile)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:

        def send(request: dict[str, Any], done: "Future[dict[str, Any]]") -> None:
            error = done.exception()
            found = {"kind": "failed", "reason": str(error)[:500]} if error else done.result()
            with lock:
                _answer(answers, {**found, "number": request["number"]})

        _answer(answers, READY)
        for request in requests:
            pool.submit(_work, request).add_done_callback(partial(send, request))
        pool.shutdown(cancel_futures=True)


# What forked processes do: they have it without being sent anything.
_WORK: list[Callable[[dict[str, Any]], dict[str, Any]]] = []


def _work(request: dict[str, Any]) -> dict[str, Any]:
    return _WORK[0](request)


if __name__ == "__main__":
    main(sys.argv[1])
