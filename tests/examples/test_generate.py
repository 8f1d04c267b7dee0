"""The generation example in a short run: the model was trained, one state stays as it is, the other grows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from examples import generate
from examples.mixer_models import Shape, one_torch_thread
from examples.python_sources import read_sources
from examples.train_byte_lm import OWN, ByteModel, Plan

RECURRENT, SOFTMAX = "gated_delta_rule", "softmax_causal"


@pytest.mark.parametrize("spec", [RECURRENT, SOFTMAX, "rwkv7", OWN])
def test_bytes_in_parts_and_one_by_one_are_the_whole_text(spec):
    torch.manual_seed(0)
    model, text = ByteModel(spec, Shape(16, 2, 2)), read_sources(40).validation.long()[None]
    with torch.no_grad(), one_torch_thread():
        whole = model(text)
        scores, states = model.read(text[:, :17], model.new_states(64))
        torch.testing.assert_close(scores, whole[:, 16])
        scores, states = model.read(text[:, 17:30], states)
        torch.testing.assert_close(scores, whole[:, 29])
        for t in range(30, 40):
            scores, states = model.step(text[:, t], states)
            torch.testing.assert_close(scores, whole[:, t])


def test_texts_are_longer_and_longer():
    assert generate.lengths(100_000, 64).contexts == (1000, 3000, 10_000, 30_000, 100_000)
    assert generate.lengths(5000, 64).contexts == (1000, 5000) and generate.lengths(200, 64).contexts == (200,)


def test_training_takes_the_time_that_there_is():
    corpus, plan = read_sources(100_000), Plan(Shape(16, 2, 1), 0, 2, 16, 0, "cpu")
    none, some = (generate.timed(RECURRENT, corpus, plan, seconds).steps for seconds in (0, 100))
    assert none == generate.PROBE < some


@pytest.mark.parametrize("wrong", ["--longest 0", "--tokens 2", "--longest many"])
def test_lengths_that_measure_nothing_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        generate.main(wrong.split())
    assert wrong.split()[1] in capsys.readouterr().err


def test_a_short_run(tmp_path: Path, capsys):
    arguments = "--steps 30 --longest 2500 --tokens 24 --width 32 --heads 2 --layers 1"
    outcomes = generate.main([*arguments.split(), "--out", str(tmp_path)])
    assert [(o.name, o.steps) for o in outcomes] == [(RECURRENT, 30), (SOFTMAX, 30)]
    for outcome in outcomes:
        assert outcome.before > 7 and outcome.after < 5.6
        assert [w.context for w in outcome.windows] == [1000, 2500] and all(w.rate > 1 for w in outcome.windows)
        assert len(outcome.written) == 24
    recurrent, softmax = ([w.state_bytes for w in o.windows] for o in outcomes)
    assert recurrent == [2 * 16 * 16 * 4] * 2  # a K x V matrix for each head
    assert softmax == [
        2 * 2 * 16 * 4 * (w.context + 24) for w in outcomes[1].windows
    ]  # k and v for each token and head
    assert (tmp_path / "generate.png").stat().st_size > 10_000
    saved = json.loads((tmp_path / "generate.json").read_text())
    assert [o["windows"][1]["state_bytes"] for o in saved] == [recurrent[1], softmax[1]]
    out = capsys.readouterr().out
    assert "tokens/s" in out and "generate.png" in out and "bits per byte" in out


def test_what_is_written_comes_from_the_model():
    """Bytes are drawn from its scores: a head that allows one byte writes that one alone."""
    model = ByteModel(RECURRENT, Shape(16, 2, 1))
    with torch.no_grad(), one_torch_thread():
        model.head.bias[ord("x")] = 1e4
        found = list(generate.generate(model, read_sources(50).train, generate.Lengths((20, 50), 5), lambda *_: None))
    assert [written for _, written in found] == [b"xxxxx", b"xxxxx"]
    assert np.unique([window.state_bytes for window, _ in found]).size == 1
