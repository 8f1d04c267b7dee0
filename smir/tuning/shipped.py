"""Configurations that come with the package, one file per device: a first call there costs compilation only."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from smir.tuning.settings import Family
from smir.tuning.store import Identity

FOLDER = Path(__file__).resolve().parents[1] / "tuned"
FORMAT = 1


@lru_cache(maxsize=1)
def shipped_families(folder: Path = FOLDER) -> Mapping[Identity, Family]:
    """All of them; the version of SMIR isn't part of their identity, because they come with it."""
    return {who: family for path in sorted(folder.glob("*.json")) for who, family, _ in read_table(path)}


def shipped_family(who: Identity) -> Family:
    return shipped_families().get(replace(who, smir=""), Family())


def read_table(path: Path) -> list[tuple[Identity, Family, str]]:
    """The families of one file with their mixers' names. Raises what reading something else raises."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["format"] != FORMAT:
        raise ValueError(f"{path}: format {found['format']!r}")
    return [(_identity(found, e), Family.from_json({**e, "quarantine": {}}), e["mixer"]) for e in found["mixers"]]


def write_table(path: Path, device: str, compiler: str, families: Mapping[tuple[str, str, str], Family]) -> None:
    """Families by the mixer's name, its hash and the type. Entries only: the quarantine belongs to a machine."""
    mixers = [
        {"mixer": name, "hash": digest, "backend": "triton", "dtype": dtype, "entries": family.to_json()["entries"]}
        for (name, digest, dtype), family in sorted(families.items())
    ]
    text = json.dumps({"format": FORMAT, "device": device, "compiler": compiler, "mixers": mixers}, indent=1) + "\n"
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _identity(table: Mapping[str, Any], entry: Mapping[str, Any]) -> Identity:
    return Identity(entry["hash"], entry["backend"], entry["dtype"], table["device"], table["compiler"], "")
