"""Packed sequences in Triton kernels: the same numbers as a call for each sequence, in every form and class."""

import pytest
import torch

from smir.backends.triton_gpu.packed import chunk_table, most_chunks
from tests.triton.classes import LIBRARY
from tests.triton.conftest import Submit
from tests.triton.packed import compare_packed, packed_resources, tables_made

# A class each: decays token by token and in chunks, erases, two directions over pairs of chunks, scans, one with tokens
# before the first one, softmax of a band and with decays.
CLASSES = {
    ("hgrn", "step"), ("scalar_decay", "chunked"), ("delta_rule", "chunked"), ("lion_s", "quadratic"), ("hgrn", "scan"),
    ("short_convolution", "scan"), ("softmax_window8", "quadratic"), ("forgetting_attention", "quadratic"),
}  # fmt: skip
CASES = [
    case if case in CLASSES else pytest.param(*case, marks=pytest.mark.full)
    for case in LIBRARY
    if not case[0].startswith("aft_full")
]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_packed_is_a_loop_over_the_sequences(interpreted: Submit, name: str, form: str) -> None:
    assert interpreted(compare_packed, name, form).result() == []


def test_a_table_is_made_once_for_all_passes_and_layers(interpreted: Submit) -> None:
    assert interpreted(tables_made, "linear_attention").result() == (1, 2)


def test_packed_kernels_compile_within_limits(compiled: Submit) -> None:
    found = compiled(packed_resources, "scalar_decay").result()
    assert found and all(within for _, within in found), found


@pytest.mark.parametrize("chunk", [1, 16])
@pytest.mark.parametrize("lengths", [(5,), (16, 16), (1, 0, 18, 5), (0, 0, 3), (1,) * 9, (33, 0)])
@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_the_table_says_whose_each_chunk_is(lengths: tuple[int, ...], chunk: int, kind: torch.dtype) -> None:
    bounds = torch.tensor([sum(lengths[:n]) for n in range(len(lengths) + 1)], dtype=kind)
    found = chunk_table(bounds, sum(lengths), chunk)
    owners = [n for n, length in enumerate(lengths) for _ in range(-(-length // chunk))]
    whose = found["sequence_of"].tolist()
    assert whose == owners + [len(lengths)] * (len(whose) - len(owners))
    assert len(whose) == most_chunks(sum(lengths), len(lengths), chunk)
    for n, first in enumerate(found["first_chunks"].tolist()):
        assert first == sum(owner < n for owner in owners)


def test_making_a_table_waits_for_nobody() -> None:
    bounds = torch.empty(9, dtype=torch.int32, device="meta")  # a tensor without values: reading one is an error
    found = chunk_table(bounds, 4096, 64)
    assert found["sequence_of"].shape == (most_chunks(4096, 8, 64),)
