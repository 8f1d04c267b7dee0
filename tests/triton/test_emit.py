"""What is printed: readable, self-contained, safe against names, and free of known compiler traps."""

import ast
import re
from dataclasses import replace

import pytest

import smir
from smir.backends.triton_gpu.emit import emit
from smir.backends.triton_gpu.facts import Facts
from smir.derivatives import training_plan
from smir.errors import IRError
from smir.ir import tile
from smir.ir.graph import Node
from smir.ir.kernel import FULL, Kernel, KernelPlan, Store
from smir.ir.tile import CHUNK, TOKEN
from smir.ir.tile_program import CHUNKED, Result, TileLeaf
from tests.triton.specs import CLASHING_NAMES, ROTATIONS

PARTS = ("launch.py", "tiles.py", "__init__.py")


def sources(spec: str, form: str = "chunked", exact: str = "") -> dict[str, str]:
    return emit(smir.compile(spec).compilation.plans[form], Facts(frozenset(exact.split())))


def plan_of(value: Node, name: str = "k", kernel: str = "output") -> KernelPlan:
    """A plan of one kernel that writes a value made of the input `k`."""
    leaf, result = TileLeaf(TOKEN, name, CHUNK, "K"), Result("y", value.type.rows, value.type.cols)
    kernels = (Kernel(kernel, "y", (), (Store("y", value),), (("K", FULL),)),)
    return KernelPlan("hand_made", CHUNKED, (leaf,), (result,), (), kernels)


def test_one_file_per_kernel_and_a_launcher() -> None:
    printed = sources("delta_rule")
    assert set(printed) == {*PARTS, "inverses.py", "prep_output.py", "carry_S.py"}
    for name, text in printed.items():
        ast.parse(text, name)


@pytest.mark.parametrize("name", smir.library_names())
def test_packages_need_torch_and_triton_only(name: str) -> None:
    for form in smir.compile(name).compilation.plans:
        for text in sources(name, form).values():
            imported = {m.group(1) for m in re.finditer(r"^(?:import|from) ([\w.]+)", text, re.M)}
            assert {i.split(".")[0] for i in imported} <= {"", "functools", "os", "torch", "triton"}


@pytest.mark.parametrize("name", ["gla", "kda", "lion_s"])
def test_lines_fit_a_page(name: str) -> None:
    long = [line for text in sources(name).values() for line in text.splitlines() if len(line) > 120]
    assert not [line for line in long if "def launch(" not in line]


def test_kernels_carry_their_formula() -> None:
    text = sources("scalar_decay")["prep_output.py"]
    assert text.startswith("# prep_output: one program per (batch, chunk, head).\n# prep_output_value_0 = ")
    assert "q @ k.T" in text.split("import triton")[0]


def test_loads_come_at_their_first_use() -> None:
    text = sources("scalar_decay")["carry_S.py"]
    assert text.index(" q = tl.load") > text.index("product = tl.dot")
    assert text.index(" k = tl.load") > text.index("y_ptr +"), "queries are done with when keys come"


def test_sizes_are_not_specialised_and_offsets_are_wide() -> None:
    text = sources("scalar_decay")["prep_output.py"]
    assert '@triton.jit(do_not_specialize=["time", "heads", "chunks"])' in text
    assert "batch = tl.cast(program // heads // chunks, tl.int64)" in text
    assert "start = tl.cast(chunk * CHUNK, tl.int64)" in text


def test_masks_are_left_out_where_sizes_are_exact() -> None:
    padded, exact = sources("linear_attention")["carry_S.py"], sources("linear_attention", exact="K V")["carry_S.py"]
    assert "over_K < SIZE_K" in padded and "over_V < SIZE_V" in padded
    assert "< SIZE_" not in exact
    assert "powers of two from 16 on: K, V" in sources("linear_attention", exact="K V")["launch.py"]


def test_all_levels_share_one_run_time_loop() -> None:
    text = sources("dplr")["prep_output_tiles.py"]
    assert text.count("for level in range(LEVELS):") == 1
    assert text.count("weighted_level_product(") == 1 and text.count("= pair_distance(") == 1


def test_a_read_before_the_update_needs_one_distance() -> None:
    """Keys' distances are the same for exclusive queries, so that both share the queries' weights."""
    text = sources("rwkv6")["shared.py"]
    assert text.count("= pair_distance(") == 1 and "suffix, clamped_w, level, PARTS=parts_of_w)" in text


def test_gradients_of_a_mixed_tile_are_weighted_once() -> None:
    """Queries' and keys' gradients are the rows of one product, the distances' are that times the tile itself."""
    mixer = smir.compile("gla")
    plan = training_plan(mixer.compilation, "chunked", frozenset("qkvg")).backward
    text = emit(plan)["output.py"]
    loop = text[text.index("for level in range(LEVELS):") :].split("tl.store(")[0]
    assert loop.count("tl.dot(") == 1 and loop.count("* exp_clamped_g_distance") == 2
    assert "product * picked," in loop and loop.count("level_rows(product, level, ODD=") == 2
    assert "tl.zeros((CHUNK, BLOCK_K), tl.float32)\n    for" in text and "d_q += level_rows(" in loop


def test_the_unit_step_has_no_matrix_products() -> None:
    text = sources("kda", "step")
    assert not any("tl.dot(" in body for name, body in text.items() if name not in PARTS)


def test_a_transposed_product_result_never_enters_a_product() -> None:
    """`tl.dot(tl.trans(x), y)` of a computed x is compiled wrongly for Hopper; x is computed transposed instead."""
    q, k = tile.token("k", CHUNK, "K"), tile.token("k", CHUNK, "K", 1)
    scores = tile.pointwise("exp", tile.dot(q, tile.transpose(k)))
    text = emit(plan_of(tile.dot(tile.transpose(tile.mask(scores, "lower")), q)))["output.py"]
    left = re.findall(r"tl\.dot\(\s*([^\n]*)", text)[-1]
    assert "tl.trans(" not in left
    assert "row[:, None] <= row[None, :]" in text


def test_a_transposed_load_may_enter_a_product() -> None:
    text = sources("linear_attention")["carry_S.py"]
    assert "tl.dot(tl.trans(k).to(PRODUCT), v.to(PRODUCT)" in text


def test_padding_is_masked_where_a_contraction_would_add_it_up() -> None:
    k = tile.token("k", CHUNK, "K")
    total = tile.reduce_sum(tile.pointwise("exp", k), 1)
    assert "tl.sum(tl.where((over_K < SIZE_K)[None, :], exp(k, PRODUCT), 0.0)" in emit(plan_of(total))["output.py"]
    assert "tl.where" not in emit(plan_of(total), Facts(frozenset("K")))["output.py"]
    assert "tl.where" not in emit(plan_of(tile.reduce_sum(k, 1)))["output.py"]


def test_angles_have_blocks_half_as_wide() -> None:
    launcher = sources(ROTATIONS, "step")["launch.py"]
    assert "BLOCK_K_over_2=padded(SIZE_K_over_2, 8)" in launcher


def test_names_that_kernels_use_themselves() -> None:
    """Inputs called like variables of a kernel or its launcher get names of their own."""
    printed = sources(CLASHING_NAMES)
    assert "def launch(batch_2, head, time_2, options_2, tl_2, *" in printed["launch.py"]
    assert "initial_program" in printed["launch.py"]
    for text in printed.values():
        ast.parse(text)


@pytest.mark.parametrize("name", ["k; import os", "k\nimport os", "1k", "lambda", "k'", "ключ", ""])
def test_nothing_but_names_reaches_source(name: str) -> None:
    value = tile.token(name, CHUNK, "K")
    with pytest.raises(IRError):
        emit(plan_of(value, name))


def test_a_kernel_name_is_checked() -> None:
    with pytest.raises(IRError):
        emit(plan_of(tile.token("k", CHUNK, "K"), kernel="launch"))
    with pytest.raises(IRError):
        emit(plan_of(tile.token("k", CHUNK, "K"), kernel="x(): pass"))


def test_formulas_stay_comments() -> None:
    plan = plan_of(tile.token("k", CHUNK, "K"))
    evil = Kernel(
        "output", "y = 1\nimport os\r\x0cos.abort()", plan.kernels[0].loops, plan.kernels[0].stores, (("K", FULL),)
    )
    printed = emit(replace(plan, kernels=(evil,)))["output.py"]
    head = printed.split("import triton")[0]
    assert all(line.startswith("#") or not line for line in head.splitlines())


def test_printing_is_deterministic() -> None:
    assert sources("kda") == sources("kda")
