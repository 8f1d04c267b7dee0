"""Which measurements serve which calls, and how two of them become one."""

import json
from dataclasses import replace

import pytest

import smir
from smir.cli import main
from smir.tuning.lookup import Found, find, identity
from smir.tuning.settings import Bucket, Family, Setting, bucket, candidate_name, fingerprint
from smir.tuning.store import Store
from tests.tuning.conftest import WHERE, compilation, problem, setting


def test_the_faster_of_two_measurements_stays_whichever_comes_first():
    slow = Family().with_setting(WHERE, "chunked", setting(2.0, num_warps=4)).with_quarantined("a", "b")
    fast = Family().with_setting(WHERE, "chunked", setting(1.0, num_warps=8)).with_setting(WHERE, "scan", setting(3.0))
    assert slow.merged(fast) == fast.merged(slow)
    assert slow.merged(fast).entries[WHERE] == {"chunked": setting(1.0, num_warps=8), "scan": setting(3.0)}


def test_a_time_of_kernels_that_have_changed_gives_way():
    old, new = replace(setting(1.0), code="old"), replace(setting(2.0), code="new")
    assert Family().with_setting(WHERE, "chunked", old).with_setting(WHERE, "chunked", new).entries[WHERE] == {
        "chunked": new
    }


def test_a_bucket_knows_neither_the_batch_nor_the_length():
    assert bucket(["q", "k"], {"K": 100}, 12, 600) == Bucket(("k", "q"), (("K", 128),), 16, "long")
    assert bucket([], {}, 1, 600) == bucket([], {}, 1, 100_000)
    assert [bucket([], {}, 1, n).length for n in (1, 2, 511, 512)] == ["token", "short", "short", "long"]


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"chunk": True}, {"chunk": 2.5}, {"milliseconds": float("nan")},
                                   {"milliseconds": "1"}, {"kernels": [{"name": 1}]}])  # fmt: skip
def test_settings_that_were_never_written_are_refused(wrong):
    with pytest.raises((ValueError, KeyError)):
        Setting.from_json({**setting(1.0).to_json(), **wrong})


def keep(store: Store, form: str, found: Setting, tokens: int = 4096, **more) -> None:
    done = compilation()
    asked = problem(done, tokens=tokens, **more)
    from smir.tuning.lookup import bucket_of

    store.update(identity(done, asked), lambda known: known.with_setting(bucket_of(asked), form, found))


def test_one_measurement_serves_all_lengths_of_its_class(store: Store):
    keep(store, "chunked", setting(1.0, chunk=16), tokens=4096)
    done = compilation()
    for tokens in (512, 1000, 100_000):
        assert find(done, problem(done, tokens=tokens)).settings == {"chunked": setting(1.0, chunk=16)}
    missed = find(done, problem(done, tokens=100))
    assert not missed.settings and "short sequences" in missed.missing


def test_forward_and_training_are_measured_apart(store: Store):
    keep(store, "chunked", setting(1.0), wanted=("q", "k"))
    done = compilation()
    assert not find(done, problem(done)).settings
    near = find(done, problem(done, wanted=("q", "k", "v")))
    assert near.settings and "gradients of k, q;" in near.origin


def test_calls_run_with_what_was_measured(store: Store, monkeypatch):
    seen: list[int] = []
    from smir.backends.numpy_reference import plan_interpreter

    original = plan_interpreter.run_results

    def watched(*args, chunk, **named):
        seen.append(chunk)
        return original(*args, chunk=chunk, **named)

    monkeypatch.setattr(plan_interpreter, "run_results", watched)
    mixer = smir.compile("scalar_decay")
    arrays = {n: a.astype("float32") for n, a in smir.sample(mixer.spec, 1, 600, 2, {"K": 16, "V": 16}).items()}
    mixer(**arrays)
    keep(store, "chunked", setting(1.0, chunk=48))
    smir.compile("scalar_decay")(**arrays)
    smir.compile("scalar_decay", chunk=96)(**arrays)  # a chunk that was asked for stays
    both = {n: a.repeat(3, axis=0) for n, a in arrays.items()}
    smir.compile("scalar_decay")(**both)
    assert seen == [64, 48, 96, 48]


def test_without_an_entry_the_rule_decides_and_the_same_every_time(home):
    mixers = [smir.compile("scalar_decay") for _ in range(2)]
    arrays = smir.sample(mixers[0].spec, 1, 600, 2, {"K": 16, "V": 16})
    first, second = (m(**arrays) for m in mixers)
    assert (first == second).all()
    assert find(mixers[0].compilation, problem(mixers[0].compilation)).best(None, None, "chunked") is None


def test_a_form_that_was_not_measured_is_not_overruled():
    found = Found({"scan": setting(1.0)}, WHERE)
    assert found.best(None, None, "chunked") is None
    assert found.best("scan", None, "chunked") == ("scan", setting(1.0))
    assert found.best("scan", 16, "chunked") is None


def test_what_was_wrong_here_is_not_served(store: Store):
    done = compilation()
    kernel = done.plans["chunked"].kernels[0]
    from smir.tuning.settings import KernelSetting

    tuned = Setting(64, 1.0, (KernelSetting(kernel.name, fingerprint(kernel), {"num_warps": 8}),))
    keep(store, "chunked", tuned)
    who = identity(done, problem(done))
    assert find(done, problem(done)).settings["chunked"].options_of(done.plans["chunked"]) == {
        kernel.name: {"num_warps": 8}
    }
    store.update(who, lambda f: f.with_quarantined(
        candidate_name("chunked", 64, fingerprint(kernel), {"num_warps": 8}), "wrong"))  # fmt: skip
    assert find(done, problem(done)).settings["chunked"].options_of(done.plans["chunked"]) == {}
    store.update(who, lambda f: f.with_quarantined(candidate_name("chunked", 64), "wrong"))
    assert not find(done, problem(done)).settings


def test_options_serve_only_the_kernel_that_they_were_measured_for():
    first, second = compilation("scalar_decay").plans["chunked"], compilation("gla").plans["chunked"]
    from smir.tuning.settings import KernelSetting

    tuned = Setting(64, 1.0, tuple(KernelSetting(k.name, fingerprint(k), {"num_warps": 8}) for k in first.kernels))
    assert set(tuned.options_of(first)) == {k.name for k in first.kernels}
    assert tuned.options_of(second) == {}


def test_the_switch(store: Store, monkeypatch):
    keep(store, "chunked", setting(1.0))
    monkeypatch.setenv("SMIR_TUNING", "off")
    done = compilation()
    assert find(done, problem(done)).missing == "SMIR_TUNING is off"


def test_explain_says_what_is_used_and_why_nothing_is(store: Store, capsys):
    command = [
        "explain",
        "scalar_decay",
        "--backend",
        "numpy",
        "--dtype",
        "float32",
        "--shape",
        "B=1,T=600,H=2,K=16,V=16",
    ]
    keep(store, "chunked", setting(1.25, chunk=16))
    with pytest.raises(SystemExit):
        main(command)
    text = capsys.readouterr().out
    assert "chunked, chunk 16, 1.250 ms (tuned on this machine)" in text
    assert "none, the rules decide (nothing measured on" in text  # training was not tuned
    with pytest.raises(SystemExit):
        main([*command, "--json"])
    assert len(json.loads(capsys.readouterr().out)["tuning"]) == 2
