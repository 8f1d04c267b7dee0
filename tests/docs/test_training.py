"""docs/training.md is true: its programs run, one after the other, and its examples exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_programs_run(capsys):
    values = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        exec(compile(block, "training.md", "exec"), values)
    assert "gated_delta_rule, d_model=64, heads=4, K=16, V=16" in capsys.readouterr().out


def test_the_examples_exist():
    for name in re.findall(r"python -m ([\w.]+)", TEXT):
        assert (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()
