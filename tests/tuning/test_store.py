"""What is on disk: never half a file, never something else's, nothing lost when writers meet or die."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smir.errors import BackendError
from smir.tuning.settings import Family
from smir.tuning.store import Store
from tests.tuning.conftest import WHERE, WHO, setting

# Writes settings under the numbers from `first` on for ever, and says which are done.
WRITER = """
import sys
from tests.tuning.conftest import WHERE, WHO, setting
from smir.tuning.store import Store
first, last = map(int, sys.argv[1:])
for number in range(first, last):
    Store().update(WHO, lambda family: family.with_setting(WHERE, f"form{number}", setting(1.0 + number)))
    print(number, flush=True)
"""
ROOT = Path(__file__).resolve().parents[2]


def writer(first: int, last: int) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(first), str(last)], cwd=ROOT, stdout=subprocess.PIPE,
                            text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip


def forms(store: Store) -> set[str]:
    stored = store.read(WHO)
    assert stored.problem is None, stored.problem
    return set(stored.family.entries.get(WHERE, {}))


def test_what_is_written_is_read(store: Store):
    family = Family().with_setting(WHERE, "chunked", setting(1.5, BLOCK_V=32, num_warps=8)).with_quarantined("a", "why")
    store.update(WHO, lambda known: known.merged(family))
    assert store.read(WHO).family == family


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"chunk": 64', '"chunk": 32'),  # the checksum tells
        lambda text: "[" * 100_000,
        lambda text: "null",
        lambda text: json.dumps({**json.loads(text), "format": 0}),
        lambda text: "\0" * 64,
    ],
)
def test_a_damaged_file_counts_as_absent_and_is_made_anew(store: Store, damage):
    store.update(WHO, lambda known: known.with_setting(WHERE, "chunked", setting(1.0)))
    path = store.path(WHO)
    path.write_text(damage(path.read_text()))
    stored = store.read(WHO)
    assert stored.family == Family() and stored.problem
    store.update(WHO, lambda known: known.with_setting(WHERE, "scan", setting(2.0)))
    assert forms(store) == {"scan"}


def test_bytes_that_are_no_text(store: Store):
    store.folder.mkdir(parents=True)
    store.path(WHO).write_bytes(b"\xff\xfe\x00")
    assert store.read(WHO).problem


def test_another_device_s_file_is_not_believed(store: Store):
    from dataclasses import replace

    other = replace(WHO, device="Another GPU")
    store.update(other, lambda known: known.with_setting(WHERE, "chunked", setting(1.0)))
    os.replace(store.path(other), store.path(WHO))
    assert store.read(WHO).family == Family()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match="can't write"):
        Store(tmp_path / "file" / "tuned").update(WHO, lambda known: known)
    assert Store(tmp_path / "file" / "tuned").read(WHO).family == Family()


def test_two_writers_at_once_lose_nothing(store: Store):
    both = [writer(0, 25), writer(25, 50)]
    for process in both:
        process.communicate()
        assert process.returncode == 0
    assert forms(store) == {f"form{n}" for n in range(50)}


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_written(store: Store):
    rng, done = random.Random(0), set[int]()
    for round_ in range(4):
        process = writer(1000 * round_, 1000 * (round_ + 1))
        assert process.stdout is not None
        first = process.stdout.readline()  # it has begun
        time.sleep(rng.uniform(0.0, 0.2))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0]
        done |= {int(n) for n in (first + rest).split()}
        found = forms(store)
        assert {f"form{n}" for n in done} <= found
        assert len(found) <= len(done) + round_ + 1  # at most one more each time: written, but not yet said
    assert len(done) > 4
