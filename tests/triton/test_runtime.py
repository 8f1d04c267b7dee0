"""Running: clear refusals without a GPU, options by rule, and the printed package on disk."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import smir
from smir.backends.triton_gpu.cache import content_hash, import_package, write_package
from smir.backends.triton_gpu.options import default_chunk, default_options, with_registers
from smir.backends.triton_gpu.padding import COLS, PaddingOf
from smir.backends.triton_gpu.runtime import run_triton
from smir.derivatives import training_plan
from smir.errors import BackendError
from smir.ir import tile
from smir.ir.graph import walk
from smir.ir.kernel import KernelPlan
from smir.ir.tile import CHUNK

PACKAGE = {"__init__.py": "from .launch import launch as launch\n", "launch.py": "def launch():\n    return 42\n"}


def plan(name: str = "linear_attention", form: str = "chunked") -> KernelPlan:
    return smir.compile(name).compilation.plans[form]


def arrays(dtype: torch.dtype = torch.float32, **other: torch.dtype) -> dict[str, torch.Tensor]:
    return {n: torch.zeros(1, 4, 1, 8, dtype=other.get(n, dtype)) for n in ("q", "k", "v")}


# ---- refusals ---------------------------------------------------------------------------------------------------


def test_tensors_on_the_processor_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendError, match="q is on cpu") as caught:
        run_triton(plan(), arrays())
    assert "backend='numpy'" in str(caught.value.hint)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32])
def test_types_without_kernels_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(BackendError, match="k is torch"):
        run_triton(plan(), arrays(k=dtype))


@pytest.mark.parametrize("chunk", [0, 1, 8, 24, 100])
def test_chunks_are_powers_of_two(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(BackendError, match=f"chunk size {chunk}"):
        run_triton(plan(), arrays(), chunk=chunk)


# ---- options ----------------------------------------------------------------------------------------------------


def test_options_are_deterministic_and_follow_sizes() -> None:
    forward = training_plan(smir.compile("gla").compilation, "chunked", frozenset("qkvg")).forward
    small, large = (default_options(forward, {"K": size, "V": size}) for size in (16, 128))
    assert small == default_options(forward, {"K": 16, "V": 16})
    assert small["output"] == {"BLOCK_V": 16, "num_warps": 4, "num_stages": 2}
    assert large["output"] == {"BLOCK_V": 128, "num_warps": 4, "num_stages": 2}, "each block makes the scores again"
    wanted = frozenset("q k v g beta".split())
    backward = default_options(training_plan(smir.compile("kda").compilation, "chunked", wanted).backward)
    assert backward["gather"]["num_warps"] == 8, "the results fill the registers of four warps"
    assert backward["output"]["BLOCK_K"] == 32, "more is alive at once than registers hold"


def test_float32_products_may_have_all_registers() -> None:
    """As many as so many warps have room for; nobody else says how many, and AMD's compiler isn't asked."""
    forward, sizes = plan("linear_attention"), {"K": 128, "V": 128}
    products = [k.name for k in forward.kernels if any(n.op == "dot" for n in walk(k.roots()))]
    found = default_options(forward, sizes, float32=True)
    assert products and all(found[name]["maxnreg"] == 255 for name in products)
    assert with_registers({**found[products[0]], "num_warps": 16})["maxnreg"] == 128
    for others in (default_options(forward, sizes), default_options(forward, sizes, float32=True, lanes=64)):
        assert not any("maxnreg" in chosen for chosen in others.values())


def test_states_with_a_whole_axis_get_narrow_blocks() -> None:
    """Token by token; a walk over chunks takes several products a step."""
    assert default_options(plan("delta_rule", "step"))["carry_S"]["BLOCK_V"] == 32


def test_walks_that_write_the_output_overlap_the_steps_that_fit() -> None:
    """In wide blocks three steps' tiles, or two; else narrow blocks."""
    for name, block, stages in (("linear_attention", 64, 3), ("delta_rule", 64, 3), ("dplr", 64, 2)):
        expected = {"BLOCK_V": block, "num_warps": 4, "num_stages": stages}
        assert default_options(plan(name), {"K": 128, "V": 128})["carry_S"] == expected


def test_walks_with_a_chain_of_products_get_narrow_blocks_where_few_leave_the_card_empty() -> None:
    """Steps are shorter in narrow blocks. A walk without such a chain is cut into segments of time instead."""
    done, sizes = smir.compile("gated_delta_rule").compilation, {"K": 128, "V": 128}
    training = training_plan(done, "chunked", frozenset(d.name for d in done.spec.declarations))
    for sequences, block in ((None, 64), (128, 64), (32, 32), (16, 16), (1, 16)):
        forward = default_options(training.forward, sizes, sequences=sequences)
        backward = default_options(training.backward, sizes, sequences=sequences)
        assert forward["carry_S"] == {"BLOCK_V": block, "num_warps": 4, "num_stages": 3}
        assert backward["carry_d_S"] == {"BLOCK_V": block, "num_warps": 8 if block == 64 else 4, "num_stages": 3}
    alone = default_options(plan("linear_attention"), sizes, sequences=1)
    assert alone["carry_S"]["BLOCK_V"] == 64


def test_scans_get_threads_that_hold_whole_columns() -> None:
    """Two columns each of a warp; lanes of matrices in wider blocks, and fewer a thread where much is alive."""
    hgrn = default_options(plan("hgrn", "scan"), {"D": 2048}, chunk=16)
    assert set(map(str, hgrn.values())) == {str({"BLOCK_D": 64, "num_warps": 1, "num_stages": 2})}
    mamba, sizes = smir.compile("mamba1").compilation, {"D": 2048, "N": 16}
    output = default_options(mamba.plans["scan"], sizes, chunk=16)["output"]
    assert output == {"BLOCK_D": 32, "num_warps": 4, "num_stages": 2}
    backward = training_plan(mamba, "scan", frozenset("u delta B C A D".split())).backward
    assert default_options(backward, sizes, chunk=16)["output"]["BLOCK_D"] == 16
    assert default_options(plan("qrnn", "scan"), {"D": 128}, chunk=16)["output"]["num_warps"] > 1, "it has products"


def test_wide_float32_tiles_get_short_chunks() -> None:
    assert default_chunk({"K": 128}, float32=True) == 32
    assert default_chunk({"K": 128}, float32=False) == default_chunk({"K": 64}, float32=True) == 64


# ---- padding ----------------------------------------------------------------------------------------------------


def test_what_stands_in_the_padding() -> None:
    padding, k = PaddingOf(), tile.token("k", CHUNK, "K")
    gate = tile.token("g", CHUNK, "1")
    assert padding(k, COLS) == 0.0
    assert padding(tile.pointwise("exp", k), COLS) == 1.0
    assert padding(tile.pointwise("mul", tile.pointwise("exp", k), k), COLS) == 0.0
    assert padding(tile.pointwise("mul", k, gate), COLS) == 0.0
    assert padding(tile.pointwise("add", k, gate), COLS) is None
    assert np.isnan(padding(tile.pointwise("log", k), COLS))
    assert np.isnan(padding(tile.pointwise("div", k, k), COLS))
    assert padding(tile.transpose(tile.pointwise("exp", k)), 0) == 1.0
    assert padding(tile.cumsum(tile.pointwise("exp", k)), COLS) is None
    assert padding(tile.cumsum(k), COLS) == 0.0


def test_what_a_choice_leaves_in_the_padding() -> None:
    """By a condition that may be NaN there, either of the two."""
    padding, k, zero = PaddingOf(), tile.token("k", CHUNK, "K"), tile.const(0.0)
    unsafe, one = tile.pointwise("log", k), tile.pointwise("exp", k)
    assert padding(tile.pointwise("where", k, one, zero), COLS) == 0.0
    assert padding(tile.pointwise("where", one, one, zero), COLS) == 1.0
    assert padding(tile.pointwise("where", unsafe, one, zero), COLS) is None
    assert padding(tile.pointwise("where", unsafe, zero, zero), COLS) == 0.0
    assert np.isnan(padding(tile.pointwise("where", unsafe, unsafe, zero), COLS))
    assert np.isnan(padding(tile.pointwise("max", unsafe, zero), COLS))
    assert np.isnan(padding(tile.pointwise("div", one, k), COLS))


# ---- packages on disk -------------------------------------------------------------------------------------------


def test_packages_are_written_once_and_imported(tmp_path: Path) -> None:
    folder = write_package(PACKAGE, tmp_path)
    assert folder.name == f"smir_{content_hash(PACKAGE)}" and sorted(os.listdir(folder)) == sorted(PACKAGE)
    written = (folder / "launch.py").stat().st_mtime_ns
    assert write_package(PACKAGE, tmp_path) == folder
    assert (folder / "launch.py").stat().st_mtime_ns == written
    assert import_package(folder).launch() == 42
    assert import_package(folder) is import_package(folder)


@pytest.mark.parametrize("damage", ["missing", "changed", "binary"])
def test_damaged_packages_are_rebuilt(tmp_path: Path, damage: str) -> None:
    file = write_package(PACKAGE, tmp_path) / "launch.py"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"def" if damage == "changed" else b"\xff\xfe")
    write_package(PACKAGE, tmp_path)
    assert file.read_text() == PACKAGE["launch.py"]


def test_many_writers_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: write_package(PACKAGE, tmp_path), range(32)))
    assert len(folders) == 1
    assert {p.name for p in (tmp_path / "kernels").iterdir()} == {folder.name for folder in folders}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "kernels").write_text("in the way")
    with pytest.raises(BackendError, match="can't write kernels") as caught:
        write_package(PACKAGE, tmp_path)
    assert "SMIR_CACHE_DIR" in str(caught.value.hint)
