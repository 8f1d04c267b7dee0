"""The command line: what it prints, its exit codes, and that it never shows a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smir.cli import main
from smir.compiled import compile as compile_mixer
from smir.sampling import sample

GOOD = "mixer m; input q, k: K; input v: V; state S: K, V; S[t] = S[t-1] + k[t] @ v[t].T; y[t] = S[t].T @ q[t]"


def smir(*arguments: str, capsys) -> tuple[int, str, str]:
    code = 0
    try:
        main(list(arguments))
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err


def test_list_shows_every_library_spec(capsys):
    code, out, _ = smir("list", "--json", capsys=capsys)
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and {"linear_attention", "gla", "delta_rule"} <= set(rows)
    assert rows["gla"]["type"] == "diagonal K" and rows["gla"]["forms"] == ["step", "chunked", "quadratic"]
    assert rows["gla"]["reference"].endswith("(2024)") and rows["gla"]["formula"].startswith("S_t =")


def test_list_is_a_table_of_classes_forms_and_papers(capsys):
    code, out, _ = smir("list", capsys=capsys)
    assert code == 0 and "class" in out and "reference" in out and "gated_delta_rule" in out


def test_check_shows_the_declarations(capsys):
    code, out, err = smir("check", "gated_delta_rule", capsys=capsys)
    assert code == 0 and not err
    assert "[-inf, 0]" in out and "beta" in out and "state" in out


def test_check_reads_standard_input():
    done = subprocess.run([sys.executable, "-m", "smir", "check", "-"], input=GOOD, capture_output=True, text=True)
    assert done.returncode == 0 and "mixer m" in done.stdout


def test_explain_names_forms_and_costs(capsys):
    code, out, _ = smir("explain", "gla", capsys=capsys)
    assert code == 0
    assert "diagonal K" in out and "step, chunked, quadratic" in out and "faster than" in out


def test_explain_says_what_breaks(capsys):
    text = "mixer r\ninput x: N\nstate h: N\nh[t] = tanh(h[t-1] + x[t])\ny[t] = h[t]\n"
    code, out, _ = smir("explain", text, capsys=capsys)
    assert code == 0 and "no chunked form" in out and "line 4" in out


def test_explain_json_is_json(capsys):
    code, out, _ = smir("explain", "delta_rule", "--size", "K=32", "--json", capsys=capsys)
    assert code == 0 and json.loads(out)["forms"] == ["step", "chunked", "quadratic"]


def test_compile_prints_every_level(capsys):
    code, out, _ = smir("compile", "retnet", "--print-ir-after-all", "--time-passes", capsys=capsys)
    assert code == 0
    for stage in ("parse", "masks_to_states", "recognise", "lower (chunked)", "partition (quadratic)"):
        assert f"// after {stage}" in out
    assert "total" in out


def test_verify_exits_with_0_when_all_agree(capsys):
    code, out, _ = smir("verify", "scalar_decay", "--tokens", "20", "--json", capsys=capsys)
    report = json.loads(out)
    assert code == 0 and report["passed"]
    assert {row["form"] for row in report["rows"]} == {"step", "chunked", "quadratic"}


def test_verify_exits_with_1_when_a_form_is_wrong(capsys, monkeypatch):
    monkeypatch.setattr("smir.verify.FLOAT64_BUDGET", -1.0)
    code, out, _ = smir("verify", "scalar_decay", "--tokens", "20", capsys=capsys)
    assert code == 1 and "FAIL" in out


@pytest.mark.parametrize("form", ["step", "chunked", "quadratic"])
def test_emit_writes_a_numpy_program_that_runs_alone(form, capsys, tmp_path: Path):
    code, out, _ = smir("emit", "gla", "--backend", "numpy", "--form", form, "-o", str(tmp_path / "new"), capsys=capsys)
    (file,) = out.split()
    assert code == 0 and Path(file).parent == tmp_path / "new"
    mixer = compile_mixer("gla", form=form)
    arrays = sample(mixer.spec, T=21)
    np.savez(tmp_path / "arguments.npz", **arrays)
    script = (
        f"import sys, runpy, numpy; program = runpy.run_path({file!r}); "
        f"y, state = program['run'](**numpy.load({str(tmp_path / 'arguments.npz')!r})); "
        f"assert 'smir' not in sys.modules; numpy.savez({str(tmp_path / 'results.npz')!r}, y=y, **state)"
    )
    subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, check=True)
    y, state = mixer(**arrays, return_state=True)
    with np.load(tmp_path / "results.npz") as found:
        np.testing.assert_allclose(found["y"], y, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found["S"], state["S"], rtol=1e-9, atol=1e-12)


def test_emit_writes_triton_kernels(capsys, tmp_path: Path):
    code, out, _ = smir("emit", "gla", "--backend", "triton", "--form", "chunked", "-o", str(tmp_path), capsys=capsys)
    names = {Path(line).name for line in out.split()}
    assert code == 0 and {"launch.py", "carry_S.py", "level_weights.py"} <= names
    for line in out.split():
        compile(Path(line).read_text(), line, "exec")
        assert "smir" not in Path(line).read_text()


BAD = [
    (["check", "glaa"], "did you mean gla"),
    (["check", "no/such/file.smir"], "can't read"),
    (["check", "mixer m; y[t] = x[t]"], "<spec>:1:"),
    (["explain", "gla", "--form", "fast"], "no form"),
    (["explain", "gla", "--backend", "cobol"], "no backend"),
    (["explain", "gla", "--size", "K"], "NAME=NUMBER"),
    (["compile", "gla", "--chunk", "0"], "positive"),
    (["emit", "gla", "-o", "/dev/null/x"], "can't write"),
    (["verify", "gla", "--tokens", "0"], "positive"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda p: " ".join(p) if isinstance(p, list) else "")
def test_bad_input_is_one_message_and_exit_code_2(arguments, message, capsys):
    code, out, err = smir(*arguments, capsys=capsys)
    assert code == 2 and not out
    assert err.startswith("error: ") and message in err and "Traceback" not in err


def test_errors_are_json_when_asked(capsys):
    code, _, err = smir("check", "mixer m; y[t] = x[t]", "--json", capsys=capsys)
    facts = json.loads(err)
    assert code == 2 and facts["file"] == "<spec>" and facts["line"] == 1 and facts["column"] > 1


def test_unknown_command_is_exit_code_2():
    done = subprocess.run([sys.executable, "-m", "smir", "fly"], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_binary_file_is_refused(tmp_path: Path, capsys):
    path = tmp_path / "x.smir"
    path.write_bytes(b"\xff\xfe\x00mixer")
    code, _, err = smir("check", str(path), capsys=capsys)
    assert code == 2 and "not UTF-8" in err
