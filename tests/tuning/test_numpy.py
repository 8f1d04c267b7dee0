"""The whole tuner on the numpy backend: by a mixer, by the command line, killed in between."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import smir
from smir.cli import main
from smir.errors import ArgumentError, FormError
from smir.tuning.lookup import find, identity
from smir.tuning.store import Store
from tests.tuning.conftest import compilation, problem

COMMAND = [sys.executable, "-m", "smir", "tune", "scalar_decay", "--backend", "numpy", "--forward", "--json"]
SHAPE = ["--shape", "T=600,H=2,K=16,V=16", "--dtype", "float32"]


def test_a_mixer_is_tuned_and_runs_as_tuned(home: Path):
    mixer = smir.compile("scalar_decay", form="chunked")
    arrays = {n: a.astype("float32") for n, a in smir.sample(mixer.spec, 1, 600, 2, {"K": 16, "V": 16}).items()}
    before = mixer(**arrays)
    report = mixer.tune(budget=60.0, **arrays)
    best = report.rows[0]
    assert [r.chunk for r in sorted(report.rows, key=lambda r: r.chunk)] == [16, 32, 64, 128, 256, 512]
    assert not report.counts.quarantined
    done = mixer.compilation
    served = find(done, problem(done)).best(None, None, best.form)
    assert served is not None and (served[0], served[1].chunk) == ("chunked", best.chunk)
    assert abs(mixer(**arrays) - before).max() < 1e-4
    assert best.form in str(report) and report.to_json()["rows"][0]["chunk"] == best.chunk


def test_the_command_tunes(home: Path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*COMMAND[3:], *SHAPE, "--budget", "20", "--chunk", "32", "--form", "chunked"])
    report = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert [(r["form"], r["chunk"]) for r in report["rows"]] == [("chunked", 32)]
    assert Path(report["file"]).is_relative_to(home)


@pytest.mark.parametrize(
    "wrong", [["--shape", "K=0"], ["--shape", "Z=4"], ["--dtype", "int8"], ["--backend", "triton"], ["--budget", "-1"]]
)
def test_wrong_options_are_one_clear_error(home: Path, capsys, wrong):
    with pytest.raises(SystemExit) as ended:
        main([*COMMAND[3:], *wrong])
    assert ended.value.code == 2 and json.loads(capsys.readouterr().err)["message"]


def test_nothing_to_tune_is_said(home: Path):
    mixer = smir.compile("scalar_decay")
    with pytest.raises(ArgumentError):
        mixer.tune()
    convolved = smir.compile("s4d", form="convolution")
    arrays = smir.sample(convolved.spec, 1, 64, 2)
    with pytest.raises(FormError, match="convolution"):
        convolved.tune(**arrays)


def test_a_tuner_killed_at_any_moment_leaves_nothing_broken_and_nobody_behind(home: Path):
    rng, done = random.Random(1), compilation()
    known: set[str] = set()
    for _ in range(2):
        tuner = subprocess.Popen([*COMMAND, *SHAPE, "--budget", "30"], stdout=subprocess.DEVNULL)
        time.sleep(rng.uniform(1.5, 5.0))
        tuner.send_signal(signal.SIGKILL)
        tuner.wait()
        stored = Store().read(identity(done, problem(done)))
        assert stored.problem is None
        forms = {form for entry in stored.family.entries.values() for form in entry}
        assert known <= forms and not stored.family.quarantine
        known = forms
    deadline = time.monotonic() + 20
    while children_of(home) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not children_of(home)


def children_of(home: Path) -> list[int]:
    """Processes that work for a tuner with this home."""
    mark, found = f"SMIR_CACHE_DIR={home}".encode(), []
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
