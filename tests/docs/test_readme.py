"""The README's example runs, and the files it names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    values: dict = {}
    exec(compile(block, "README.md", "exec"), values)
    assert values["y"].shape == (2, 100, 4, 32)
    assert {n: s.shape for n, s in values["state"].items()} == {"S": (2, 4, 16, 32)}
    assert "('step', 'chunked', 'quadratic')" in capsys.readouterr().out


def test_named_folders_exist():
    for name in re.findall(r"`((?:frontends|passes|backends|smir|docs)/[\w/.]*)`", README):
        assert (ROOT / name).exists(), name


def test_every_command_is_in_the_readme():
    from smir.cli import app

    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert re.search(rf"\b{name}\b", README), name
