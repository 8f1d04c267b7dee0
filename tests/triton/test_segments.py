"""When sequences are cut into segments of time, and into how many: by what a row of a batch knows of itself."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

import smir
from smir.backends.triton_gpu.runtime import Launch
from smir.backends.triton_gpu.segments import SEGMENTS
from smir.calls.execution import cut_in_time, find_backend
from smir.errors import IRError
from smir.ir.sizes import CU_SEQLENS

CHUNK = 64


def arrays(name: str, B: int, T: int, H: int, size: int = 128) -> Mapping[str, Any]:
    spec = smir.compile(name).spec
    return {d.name: torch.empty(B, T, H, *(size for _ in d.dims), dtype=torch.bfloat16, device="meta")
            for d in spec.inputs}  # fmt: skip


def prepared(name: str, given: Mapping[str, Any], form: str = "chunked", chunk: int = CHUNK, **options: Any) -> Launch:
    plan = smir.compile(name).compilation.plans[form]
    found = find_backend("triton").prepare(plan, given, chunk, options)
    assert isinstance(found, Launch)
    return found


@pytest.mark.parametrize(("T", "H", "size", "count"), [
    (4096, 16, 128, None),  # 8 sequences of a call of usual size have 512 programs
    (32768, 16, 128, 8),  # one has 64
    (131072, 16, 128, 8),
    (131072, 2, 128, 64),
    (32768, 64, 128, None),  # 256 programs are enough
    (32768, 16, 64, 32),
    (8192, 2, 128, 8),  # no segment is shorter than 16 chunks
    (2048, 1, 64, None),  # too few chunks for four of them
])  # fmt: skip
def test_how_many_segments(T: int, H: int, size: int, count: int | None) -> None:
    assert prepared("scalar_decay", arrays("scalar_decay", 1, T, H, size)).keywords.get(SEGMENTS) == count


@pytest.mark.parametrize(("name", "T", "H", "sizes", "count"), [
    ("hgrn", 4096, 16, {"D": 128}, 16),  # 8 sequences of a call of usual size have 128 warps
    ("hgrn", 32768, 16, {"D": 128}, 64),
    ("mamba1", 4096, 1, {"D": 2048, "N": 16}, None),
    ("mamba1", 32768, 1, {"D": 2048, "N": 16}, 8),
    ("rwkv4", 32768, 16, {"D": 128}, 32),
])  # fmt: skip
def test_how_many_segments_of_scans(name: str, T: int, H: int, sizes: Mapping[str, int], count: int | None) -> None:
    """What can be cut is walked whole or in segments; of what can't, the states alone are, between parallel kernels."""
    spec = smir.compile(name).spec
    given = {d.name: torch.empty(*((1, T, H) if d.kind == "input" else (H,)), *(d_.size(sizes) for d_ in d.dims),
                                 dtype=torch.bfloat16, device="meta") for d in spec.declarations}  # fmt: skip
    plan = smir.compile(name).compilation.plans["scan"]
    assert prepared(name, given, "scan", 16).keywords.get(SEGMENTS) == count
    kernels = [k.name for k in cut_in_time(plan, given, 16).kernels]
    assert any(k.startswith("walk_") for k in kernels) == (name != "rwkv4") != ("output" in kernels)


@pytest.mark.parametrize("T", [4096, 32768])
def test_the_batch_has_no_say(T: int) -> None:
    one, many = (prepared("gla", arrays("gla", B, T, 16)).keywords.get(SEGMENTS) for B in (1, 64))
    assert one == many


def test_what_can_not_be_cut_is_not() -> None:
    assert SEGMENTS not in prepared("delta_rule", arrays("delta_rule", 1, 32768, 16)).keywords


def test_the_kernel_of_the_ends_is_launched_like_the_walk() -> None:
    chosen = {"BLOCK_K": 32, "BLOCK_V": 128, "num_warps": 8, "num_stages": 3}
    given = arrays("scalar_decay", 1, 32768, 16)
    assert prepared("scalar_decay", given, carry_S=chosen).keywords["options"]["carry_S_ends"] == chosen


def test_packed_sequences_are_walked_whole() -> None:
    plan = smir.compile("scalar_decay").compilation.plans["chunked"]
    given = arrays("scalar_decay", 1, 32768, 16)
    packed = {**given, CU_SEQLENS: torch.zeros(3, dtype=torch.int32, device="meta")}
    assert cut_in_time(plan, packed, CHUNK) == plan != cut_in_time(plan, given, CHUNK)
    with pytest.raises(IRError, match="packed sequences are walked whole"):
        find_backend("triton").prepare(cut_in_time(plan, given, CHUNK), packed, CHUNK)
