"""`mixer.verify()` passes what is right and catches what is wrong."""

from dataclasses import replace

import numpy as np
import pytest

import smir
from smir import verify as verify_module
from smir.errors import ArgumentError
from smir.verify import verify


def test_a_right_mixer_is_verified_in_every_form_and_type():
    report = smir.compile("gated_delta_rule").verify()
    assert report.passed, str(report)
    seen = {(r.form, r.dtype, r.case, r.result) for r in report.rows}
    assert len(seen) == 3 * 2 * 2 * 2
    assert "verified" in str(report)


@pytest.mark.parametrize("name", smir.library_names())
def test_the_whole_library_is_verified(name):
    mixer = smir.compile(name)
    report = mixer.verify(T=37, chunk=8, seed=5)
    assert report.passed, str(report)
    assert {r.form for r in report.rows} == set(mixer.forms)
    assert not report.unproved


def test_a_wrong_form_is_caught():
    right = smir.compile("scalar_decay").compilation
    wrong = smir.compile("linear_attention").compilation
    plans = {**right.plans, "chunked": wrong.plans["chunked"]}
    report = verify(replace(right, plans=plans))
    assert not report.passed
    assert {r.form for r in report.rows if not r.passed} == {"chunked"}
    assert "FAIL" in str(report)


def test_a_nan_never_passes(monkeypatch):
    real = verify_module.run_plan

    def poisoned(*args, **options):
        y, states = real(*args, **options)
        return np.where(np.arange(y.shape[1])[:, None, None] == 3, np.nan, y), states

    monkeypatch.setattr(verify_module, "run_plan", poisoned)
    report = smir.compile("scalar_decay").verify()
    assert not any(r.passed for r in report.rows if r.result == "y")


def test_exps_without_a_promised_range_are_listed():
    text = (
        "mixer m; input q, k: K; input v: V; input g: scalar; state S: K, V; "
        "S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T; y[t] = S[t].T @ q[t]"
    )
    assert smir.compile(text).verify(T=20).unproved
    assert not smir.compile(text.replace("g: scalar", "g: scalar in [-inf, 0]")).verify(T=20).unproved


@pytest.mark.parametrize("options", [{"T": 0}, {"chunk": 0}, {"B": -1}])
def test_sizes_must_be_positive(options):
    with pytest.raises(ArgumentError, match="positive"):
        smir.compile("scalar_decay").verify(**options)
