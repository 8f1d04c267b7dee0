"""The Python standard library's own sources as bytes, in a fixed order, split by file."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HELD_OUT_EVERY = 10


@dataclass(frozen=True)
class Corpus:
    """Bytes `[n]` (uint8) of the files that are trained on and of those that aren't."""

    train: Tensor
    validation: Tensor
    files: tuple[int, int]


def read_sources(limit: int | None = None) -> Corpus:
    """The modules of the standard library's top folder, by name; every tenth file validates.

    `limit` keeps that many bytes of each side.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"), key=lambda path: path.name)
    held_out = files[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    train = [path for path in files if path not in set(held_out)]
    return Corpus(_bytes(train, limit), _bytes(held_out, limit), (len(train), len(held_out)))


def windows(text: Tensor, starts: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """The bytes `[B, tokens]` from these places on, and the bytes that follow each, as whole numbers."""
    found = text[starts[:, None] + torch.arange(tokens + 1)].long()
    return found[:, :-1], found[:, 1:]


def _bytes(files: list[Path], limit: int | None) -> Tensor:
    text = b"\n".join(path.read_bytes() for path in files)
    return torch.from_numpy(np.frombuffer(text[:limit], np.uint8).copy())
