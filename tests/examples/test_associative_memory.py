"""The demo on a short text: its results are what the mixers' algebra says they must be."""

from pathlib import Path

import numpy as np
import pytest

import smir
from examples.associative_memory import MEMORIES, baselines, main, operator_matrix, predict, read_stream
from examples.real_text import real_text

TOKENS = 2048
BY_NAME = {m.spec: m for m in MEMORIES}


@pytest.fixture(scope="module")
def stream():
    return read_stream(TOKENS)


def accuracy(name: str, stream, form: str | None = None) -> float:
    return float(predict(BY_NAME[name], smir.compile(name, form=form), stream).mean())


def test_the_text_is_real_and_the_same_every_time():
    text = real_text(5000)
    assert len(text) == 5000 == len(text.decode("ascii"))
    assert text == real_text(20000)[:5000]
    assert b" the " in text


def test_keys_have_norm_one_and_values_are_late(stream):
    np.testing.assert_allclose(np.linalg.norm(stream.q, axis=-1), 1.0, rtol=1e-5)
    assert np.array_equal(stream.k[:, 1:], stream.q[:, :-1]) and not stream.k[:, 0].any()
    assert np.array_equal(stream.v[0, 1:, 0].argmax(axis=-1), stream.targets[:-1])


def test_memories_beat_the_commonest_byte_and_not_the_exact_table(stream):
    found = {name: accuracy(name, stream) for name in BY_NAME}
    floor, ceiling = (float(h.mean()) for h in baselines(stream).values())
    assert floor < found["linear_attention"] < found["delta_rule"] <= ceiling
    assert floor < found["scalar_decay"]


@pytest.mark.parametrize("form", ["step", "quadratic"])
def test_forms_predict_the_same(stream, form):
    assert accuracy("gated_delta_rule", stream, form) == pytest.approx(
        accuracy("gated_delta_rule", stream, "chunked"), abs=2e-3
    )


def test_nothing_leaks_from_the_future(stream):
    memory, mixer = BY_NAME["delta_rule"], smir.compile("delta_rule")
    full = mixer(**memory.arguments(mixer, stream.q, stream.k, stream.v))
    part = mixer(**memory.arguments(mixer, *(a[:, :700] for a in (stream.q, stream.k, stream.v))))
    np.testing.assert_allclose(part, full[:, :700], atol=1e-4)


def test_the_operator_matrix_is_the_mixer(stream):
    matrix = operator_matrix(BY_NAME["scalar_decay"], smir.compile("scalar_decay"), stream, 100, 40)
    q, k = stream.q[0, 100:140, 0], stream.k[0, 100:140, 0]
    age = np.subtract.outer(np.arange(40), np.arange(40))
    np.testing.assert_allclose(matrix, np.tril(q @ k.T * np.exp(-0.001 * age)), atol=1e-5)


def test_the_whole_demo(tmp_path: Path, capsys):
    results = main(["--tokens", "512", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert (tmp_path / "associative_memory.png").stat().st_size > 10_000
    assert all(results.verified[m.spec] for m in MEMORIES)
    assert "next-byte accuracy" in out and "milliseconds per call" in out
    assert set(results.seconds["delta_rule"]) == {"step", "chunked", "quadratic"}
