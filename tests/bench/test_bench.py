"""`smir bench`: the rows, the ratios, the peers, the picture."""

import json
from pathlib import Path

import pytest

import smir
from smir.bench.ceilings import Ceilings
from smir.bench.floors import BOTH, DECODE, FORWARD, floor
from smir.bench.peers import PEERS, peers_of
from smir.bench.pictures import draw_report
from smir.bench.run import OURS, BenchReport, Timing, bench
from smir.cli import main
from smir.errors import ArgumentError
from smir.tuning.arguments import Shape
from smir.tuning.problem import Problem

SHAPE = ["--shape", "B=1,T=24,H=2,K=8,V=8", "--dtype", "float32", "--peers", "torch"]


def problem(name: str, tokens: int = 24) -> Problem:
    done = smir.compile(name).compilation
    return Problem.of_sizes(done, "numpy", Shape.even(done.spec, 2, tokens, 2, {"K": 8, "V": 8}), "float32")


def test_ours_and_a_plain_loop_are_measured_on_the_same_inputs(monkeypatch):
    monkeypatch.setitem(PEERS, "scalar_decay", tuple(p for p in PEERS["scalar_decay"] if p.package == "smir"))
    report = bench(smir.compile("scalar_decay"), [problem("scalar_decay")])
    found = {(t.who, t.what): t for t in report.timings}
    assert set(found) == {(w, k) for w in (OURS, "torch.scalar_decay") for k in (FORWARD, BOTH)} | {(OURS, DECODE)}
    assert all(t.milliseconds > 0 and t.limit > 0 and t.error is None for t in report.timings)
    assert all(t.difference < 1e-5 for t in report.timings if t.who != OURS)
    assert report.of_best_peer(found["torch.scalar_decay", FORWARD]) == 1.0
    assert report.of_best_peer(found[OURS, DECODE]) is None


def test_a_peer_that_fails_is_a_row_with_its_reason(monkeypatch):
    broken = next(p for p in PEERS["gla"] if p.package == "smir")
    from dataclasses import replace

    monkeypatch.setitem(PEERS, "gla", (replace(broken, options={"no_such": 1}),))
    report = bench(smir.compile("gla"), [problem("gla")], kinds=(FORWARD,))
    assert [(t.who, bool(t.error)) for t in report.timings] == [(OURS, False), ("torch.gla", True)]


def test_only_the_library_s_own_mixer_has_peers():
    text = smir.compile("scalar_decay").compilation.source.text
    other = smir.compile(text.replace("y[t] = S[t].T", "y[t] = 2 * S[t].T"))
    report = bench(other, [problem("scalar_decay")], kinds=(FORWARD,))
    assert [t.who for t in report.timings] == [OURS]


def test_peers_by_device_and_package():
    on_cpu, on_gpu = peers_of("gla", "cpu", {"torch"}), peers_of("gla", "cuda:0", {"torch"})
    assert [p.short_name for p in on_cpu] == ["torch.gla"] and not on_gpu
    assert all(name in smir.library_names() for name in PEERS)


def test_floors_count_every_byte_once():
    done = smir.compile("scalar_decay").compilation
    shape = Shape.even(done.spec, 2, 100, 4, {"K": 8, "V": 16})
    dtypes = {d.name: "bfloat16" for d in done.spec.declarations}
    tokens = 2 * 100 * 4
    arguments, output = 2 * tokens * (8 + 8 + 16 + 1), 2 * tokens * 16
    assert floor(done, shape, dtypes, FORWARD).bytes == arguments + output
    assert floor(done, shape, dtypes, BOTH).bytes == 3 * arguments + 2 * output
    assert floor(done, shape, dtypes, DECODE).bytes == (arguments + output) / 100 + 2 * 4 * 8 * 16 * 8
    assert floor(done, shape, dtypes, FORWARD).flops >= 4 * tokens * 8 * 16


def test_the_command_writes_json_and_a_picture(tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "scalar_decay", *SHAPE, "--what", "forward", "-o", str(tmp_path), "--json"])
    assert ended.value.code in (0, None)
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "scalar_decay.json").read_text())
    assert {r["who"] for r in report["rows"]} == {OURS, "torch.scalar_decay"}
    assert (tmp_path / "scalar_decay.png").read_bytes().startswith(b"\x89PNG")


def test_the_table(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "scalar_decay", *SHAPE, "--what", "forward"])
    out = capsys.readouterr().out
    assert "torch.scalar_decay" in out and "limit" in out and "GB/s" in out


@pytest.mark.parametrize("wrong", [["--what", "sideways"], ["--shape", "T=x"], ["--dtype", "int4"]])
def test_wrong_options(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "scalar_decay", *wrong])
    assert ended.value.code == 2 and capsys.readouterr().err


def test_nothing_to_measure():
    with pytest.raises(ArgumentError):
        bench(smir.compile("gla"), [])


def test_pictures_of_several_lengths(tmp_path: Path):
    rows = tuple(
        Timing(FORWARD, who, 1, tokens, 1.0 * tokens, 0.1, 0.5) for who in (OURS, "x.y") for tokens in (64, 512)
    )
    draw_report(BenchReport("m", "calls", Ceilings("card", 1e12, 1e14, "bfloat16"), rows), tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size > 10_000
