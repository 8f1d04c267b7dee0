"""What counts as right, and what a candidate must not do."""

from dataclasses import replace

import numpy as np
import pytest

import smir
from smir.calls import execution
from smir.tuning import trial
from smir.tuning.arguments import Shape, draw
from smir.tuning.problem import Candidate, Problem
from smir.tuning.trial import FAILED, OK, WRONG, Bench
from tests.tuning.conftest import compilation, problem

WANTED = ("g", "k", "q", "v")


def bench(monkeypatch, change=None, wanted: tuple[str, ...] = WANTED) -> Bench:
    """A bench whose backend's results are changed by `change(name, array, number of the call)`."""
    done = compilation()
    numpy, count = execution.find_backend("numpy"), iter(range(10_000))

    def prepare(plan, arrays, chunk, options=None):
        runner = numpy.prepare(plan, arrays, chunk, options)

        def run(arrays, states):
            found, final = runner(arrays, states)
            number = next(count)
            return {n: change(n, a, number) for n, a in found.items()}, final

        return run if change else runner

    monkeypatch.setattr(trial, "find_backend", lambda name: replace(numpy, prepare=prepare))
    return Bench(problem(done, wanted=wanted))


def test_right_results_are_measured(monkeypatch):
    outcome = bench(monkeypatch).attempt(Candidate("chunked", 32))
    assert outcome.kind == OK and outcome.whole > 0


@pytest.mark.parametrize("name", ["y", "d_g"])
def test_wrong_results_are_never_measured(monkeypatch, name):
    outcome = bench(monkeypatch, lambda n, a, number: a * 1.01 if n == name else a).attempt(Candidate("chunked", 32))
    assert outcome.kind == WRONG and outcome.reason.startswith(name) and outcome.whole is None


def test_a_missing_number_is_wrong(monkeypatch):
    def spoil(n, a, number):
        a = np.array(a)
        if n == "y":
            a[0, 3] = np.nan
        return a

    assert bench(monkeypatch, spoil).attempt(Candidate("chunked", 32)).kind == WRONG


def test_results_that_differ_from_run_to_run_are_wrong(monkeypatch):
    outcome = bench(monkeypatch, lambda n, a, number: a * (1 + 1e-7 * number), wanted=()).attempt(
        Candidate("chunked", 32)
    )
    assert outcome.kind == WRONG and "run to run" in outcome.reason


def test_what_goes_wrong_at_full_size_alone_is_found(monkeypatch):
    def spoil(n, a, number):
        a = np.array(a)
        if n == "y" and number > 4 and a.shape[1] > 300:  # after the usual options have run at full size
            a[:, 400:] *= 2
        return a

    trying = bench(monkeypatch, spoil, wanted=())
    assert trying.attempt(Candidate("chunked", 32)).kind == OK
    outcome = trying.attempt(Candidate("chunked", 32, {"forward": {"output": {}}}))
    assert outcome.kind == WRONG and "full size" in outcome.reason


def test_what_the_backend_refuses_failed(monkeypatch):
    assert bench(monkeypatch).attempt(Candidate("scan", 32)).kind == FAILED


def test_fewer_heads_of_an_input_are_compared_too(monkeypatch):
    done = smir.compile("scalar_decay").compilation
    shape = Shape(1, 300, {"q": 4, "k": 2, "v": 2, "g": 4}, {"K": 16, "V": 16})
    grouped = Problem.of_sizes(done, "numpy", shape, "float32", wanted=WANTED)
    assert Bench(grouped).attempt(Candidate("chunked", 32)).kind == OK


def test_a_problem_survives_the_pipe():
    found = problem(compilation(), wanted=WANTED)
    assert Problem.from_json(found.to_json()) == found
    candidate = Candidate("chunked", 64, {"forward": {"output": {"num_warps": 4}}}, ("forward", "output"))
    assert Candidate.from_json(candidate.to_json()) == candidate


@pytest.mark.parametrize("name", ["gated_delta_rule", "mamba1", "lion_s", "softmax_alibi"])
def test_arguments_are_inside_the_promised_ranges(name):
    spec = smir.compile(name).spec
    sizes = dict.fromkeys(smir.sampling.dimension_names(spec), 16)
    arrays = draw(spec, Shape.even(spec, 2, 1500, 2, sizes))
    for d in spec.declarations:
        assert all(float(x) in d.range for x in (arrays[d.name].min(), arrays[d.name].max()))
