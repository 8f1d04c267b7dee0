"""The table that comes with the package: it is read, and every entry is about kernels that there are."""

from pathlib import Path

import pytest

import smir
from smir.compilation import Compilation
from smir.ir.kernel import KernelPlan
from smir.tuning import lookup, shipped
from smir.tuning.lookup import find, identity, mixer_hash
from smir.tuning.passes import passes
from smir.tuning.settings import Family, KernelSetting, Setting, fingerprint
from smir.tuning.shipped import FOLDER, read_table, shipped_families, write_table
from tests.tuning.conftest import WHERE, compilation, problem, setting

TABLES = sorted(FOLDER.glob("*.json"))


def plans(done: Compilation, form: str, wanted: tuple[str, ...]) -> list[KernelPlan]:
    return list(passes(done, form, frozenset(wanted)).plans.values())


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_every_mixer_of_a_table_is_in_the_library_and_has_the_forms(path: Path):
    for who, family, name in read_table(path):
        done = smir.compile(name).compilation
        assert who.backend == "triton" and who.mixer == mixer_hash(done), f"{name} has changed: tune it again"
        for where, forms in family.entries.items():
            assert forms.keys() <= done.plans.keys()
            assert set(where.wanted) <= {d.name for d in done.spec.declarations}


@pytest.mark.full
@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_every_entry_is_about_kernels_that_there_are(path: Path):
    for _, family, name in read_table(path):
        done = smir.compile(name).compilation
        for where, forms in family.entries.items():
            for form, found in forms.items():
                known = {fingerprint(k): k.name for p in plans(done, form, where.wanted) for k in p.kernels}
                for kernel in found.kernels:
                    assert kernel.fingerprint in known, f"{name} {form}: {kernel.name} has changed, tune it again"


@pytest.fixture
def table(tmp_path: Path, home: Path, monkeypatch) -> Path:
    """A table for the processor that this test runs on."""
    done = compilation()
    who = identity(done, problem(done))
    kernel = done.plans["chunked"].kernels[0]
    tuned = Setting(32, 1.0, (KernelSetting(kernel.name, fingerprint(kernel), {"num_warps": 8}),))
    family = Family().with_setting(lookup.bucket_of(problem(done)), "chunked", tuned)
    path = tmp_path / "tables" / "card.json"
    path.parent.mkdir()
    write_table(path, who.device, who.compiler, {("scalar_decay", who.mixer, who.dtype): family})
    path.write_text(path.read_text().replace('"backend": "triton"', '"backend": "numpy"'))
    found = shipped_families(path.parent)
    monkeypatch.setattr(shipped, "shipped_families", lambda: found)
    return path


def test_a_first_call_finds_what_is_shipped(table: Path):
    done = compilation()
    found = find(done, problem(done))
    assert found.origin == "shipped with this version" and found.settings["chunked"].chunk == 32
    assert set(found.settings["chunked"].options_of(done.plans["chunked"])) == {done.plans["chunked"].kernels[0].name}


def test_the_user_s_own_come_first(table: Path, store):
    done = compilation()
    who, where = identity(done, problem(done)), lookup.bucket_of(problem(done))
    store.update(who, lambda family: family.with_setting(where, "chunked", setting(5.0, chunk=16)))
    assert find(done, problem(done)).settings["chunked"].chunk == 16


def test_what_was_wrong_here_is_not_served_from_the_table_either(table: Path, store):
    done = compilation()
    who = identity(done, problem(done))
    store.update(who, lambda family: family.with_quarantined("chunked chunk 32", "wrong here"))
    assert not find(done, problem(done)).settings


def test_a_table_is_read_as_it_was_written(tmp_path: Path):
    family = Family().with_setting(WHERE, "chunked", setting(1.0, BLOCK_V=32)).with_quarantined("a", "b")
    write_table(tmp_path / "card.json", "card", "triton 3.6", {("gla", "hash", "bfloat16"): family})
    ((who, found, name),) = read_table(tmp_path / "card.json")
    assert (who.device, who.mixer, who.dtype, name) == ("card", "hash", "bfloat16", "gla")
    assert found == Family(family.entries)  # the quarantine belongs to a machine
