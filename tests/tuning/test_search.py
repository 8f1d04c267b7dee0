"""The search with a process that breaks: what is best is found, what is wrong is never kept, and never tried again."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from smir.errors import ArgumentError, BackendError
from smir.tuning import lookup, tune, workshop
from smir.tuning.children import Child
from smir.tuning.lookup import bucket_of, find, identity
from smir.tuning.problem import Problem
from smir.tuning.store import Store
from smir.tuning.targets import target
from smir.tuning.tune import TuningReport
from smir.tuning.workshop import Workshop
from tests.tuning.conftest import compilation, problem

FAKE = Path(__file__).with_name("fake_child.py")


@pytest.fixture
def gpu(monkeypatch) -> None:
    """The rules of the Triton backend for a GPU that isn't there."""
    here = replace(target("triton"), device=lambda device: "Test GPU, 8 processors", compiled_for=lambda device: None)
    for module in (tune, lookup):
        monkeypatch.setattr(module, "target", lambda backend: here)


def run(home: Path, budget: float = 30.0, command: list[str] | None = None) -> TuningReport:
    done = compilation()
    asked = calls(done)

    def start(role: str, given: Problem) -> Child:
        return Child(command or [sys.executable, str(FAKE), str(home)], given)

    return tune.tune(done, asked, ["chunked"], budget=budget, workshop=Workshop(asked, None, start))


def calls(done) -> Problem:
    return replace(problem(done, "triton", tokens=4096), shape=replace(problem(done).shape, sizes={"K": 64, "V": 64}))


def tried(home: Path) -> list[dict]:
    return [json.loads(line) for line in (home / "tried").read_text().splitlines()]


def test_the_best_is_found_and_kept_though_candidates_crash(home: Path, gpu, monkeypatch):
    monkeypatch.setattr(workshop, "TRIAL_SECONDS", 0.7)
    report = run(home)
    best = report.rows[0]
    assert (best.form, best.chunk) == ("chunked", 32)
    assert best.tuned < best.usual
    chosen = dict(best.kernels)
    given = {"maxnreg": 255}  # by rule; it isn't searched
    assert chosen["carry_S"] == {"BLOCK_V": 64, "num_warps": 8, "num_stages": 3, **given}
    assert chosen["prep_output"] == {"num_warps": 8, "num_stages": 2, **given}  # no loop, so no other stages
    reasons = " ".join(why for _, why in report.counts.quarantined)
    assert "SIGSEGV" in reasons and "7 times as far off" in reasons
    done = compilation()
    kept = find(done, calls(done))
    assert kept.origin == "tuned on this machine"
    assert kept.settings["chunked"].options_of(done.plans["chunked"]) == chosen
    assert kept.settings["chunked"].milliseconds == best.tuned


def test_what_crashed_is_never_tried_again(home: Path, gpu, monkeypatch):
    monkeypatch.setattr(workshop, "TRIAL_SECONDS", 0.7)
    first = run(home)
    (home / "tried").unlink()
    again = run(home)
    crashed = {what for what, _ in first.counts.quarantined}
    assert crashed and not crashed & {what for what, _ in again.counts.quarantined}
    assert again.rows[0].tuned == first.rows[0].tuned


def test_a_candidate_that_never_answers_is_given_up(home: Path, gpu, monkeypatch):
    monkeypatch.setattr(workshop, "TRIAL_SECONDS", 0.5)
    sleeper = 'import sys, time; next(sys.stdin); print(\'{"kind": "ready"}\', flush=True); time.sleep(60)'
    monkeypatch.setattr(workshop, "FIRST_SECONDS", 0.5)
    report = run(home, command=[sys.executable, "-c", sleeper])
    assert not report.rows
    assert all("no answer" in why for _, why in report.counts.quarantined) and report.counts.quarantined


def test_the_budget_is_kept(home: Path, gpu):
    sleeper = 'import sys, time; next(sys.stdin); print(\'{"kind": "ready"}\', flush=True); time.sleep(60)'
    report = run(home, budget=1.0, command=[sys.executable, "-c", sleeper])
    assert report.seconds < 5 and not report.counts.quarantined


def test_a_process_that_cannot_begin_accuses_no_candidate(home: Path, gpu):
    with pytest.raises(BackendError, match="no such device"):
        run(home, command=[sys.executable, "-c", "raise SystemExit('no such device')"])
    done = compilation()
    assert not Store().read(identity(done, calls(done))).family.quarantine


@pytest.mark.parametrize("budget", [0, -1, float("inf"), float("nan"), True, "20"])
def test_a_budget_is_a_number_of_seconds(home: Path, gpu, budget):
    with pytest.raises(ArgumentError, match="seconds"):
        run(home, budget=budget)


def test_measurements_of_two_tuners_become_one(home: Path, gpu, monkeypatch):
    """The second finds less in its time; what the first found stays."""
    monkeypatch.setattr(workshop, "TRIAL_SECONDS", 0.7)
    done = compilation()
    first = run(home)
    run(home, budget=0.7)
    entries = Store().read(identity(done, calls(done))).family.entries
    assert entries[bucket_of(calls(done))]["chunked"].milliseconds == first.rows[0].tuned
