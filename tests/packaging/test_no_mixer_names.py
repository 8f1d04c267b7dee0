"""The compiler knows no mixer by name: passes and backends solve classes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = (
    "retnet retention lion gla hgrn mamba ssd rwkv dfw mlstm deltanet delta_rule kda dplr s4d rglru hawk griffin "
    "abc gsa aft rfa bidir_half linear_attention forgetting_attention hydra"
).split()
NAME = re.compile(rf"(?<![a-z])({'|'.join(FAMILIES)})\d*(?![a-z])", re.IGNORECASE)
FILES = sorted(p for folder in ("passes", "backends") for p in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_mixer_is_named(path: Path):
    text = (
        path.read_text(encoding="utf-8")
        .replace("from abc import", "")
        .replace("import abc", "")
        .replace("collections.abc", "")
    )
    found = {m.group(0) for m in NAME.finditer(text)}
    assert not found
