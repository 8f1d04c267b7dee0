"""Every kernel compiles for the GPUs that count, within what a program may take of one. No GPU is needed."""

from typing import Any

import pytest

import smir
from smir.backends.triton_gpu.ahead_of_time import STACK_LIMIT, Resources, table
from smir.errors import BackendError
from tests.triton.classes import LIBRARY, forms, marked
from tests.triton.conftest import Submit
from tests.triton.specs import SPECS
from tests.triton.work import backward_resources, exchanges, resources

# One spec for each transition class.
CLASSES = ["linear_attention", "scalar_decay", "gla", "dfw", "delta_rule", "kda"]
OWN = [(name, form) for name, text in SPECS.items() for form in forms(text)]
# The form that meets most operations: the others are in full runs.
FIRST = {name: next(f for f in ("chunked", "step") if (name, f) in OWN) for name in SPECS}
# Elements that a kernel holds at one time by the model, from which on it is compiled in every run.
RISKY = 84 << 10
# Bytes of stack beyond the bound, which docs/verification.md names: an output that is divided no further, and one whose
# parts together took longer than it does with what it spills.
KNOWN_STACK = {"mamba3": 1504, "rwkv7": 1208}


def assert_fits(rows: list[tuple[object, ...]]) -> None:
    assert rows and all(within for *_, within in rows), rows


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), marked(LIBRARY))
def test_library_on_hopper(compiled: Submit, name: str, form: str) -> None:
    """All kernels, with heads of the smallest size: what compiles so compiles in all sizes (those are in full runs)."""
    assert_fits(compiled(resources, name, form, "sm_90", 16, "bfloat16", 16).result())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_100", "gfx942"])
@pytest.mark.parametrize("name", CLASSES)
def test_classes_on_other_targets(compiled: Submit, name: str, target: str) -> None:
    rows = compiled(resources, name, "chunked", target, 16, "bfloat16", 16).result()
    assert len(rows) >= 2
    assert_fits(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_backward_kernels_of_classes(compiled: Submit, name: str) -> None:
    assert_fits(compiled(backward_resources, name, "chunked", "sm_90", 16, "bfloat16", 16).result())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gla", pytest.param("gated_delta_rule", marks=pytest.mark.full)])
def test_a_common_head_fits(compiled: Submit, name: str) -> None:
    """The backward pass in the sizes that people train with."""
    assert_fits(compiled(backward_resources, name, "chunked", "sm_90", 128, "bfloat16", 64).result())


@pytest.mark.slow
@pytest.mark.parametrize("name", smir.library_names())
def test_backward_kernels_that_hold_much(compiled: Submit, name: str) -> None:
    """Of all forms, those that are beyond the bounds first if any are."""
    for form in forms(name):
        rows = compiled(backward_resources, name, form, "sm_90", 128, "bfloat16", None, RISKY).result()
        most = KNOWN_STACK.get(name, STACK_LIMIT)
        assert all(within or stack <= most for _, _, _, stack, _, within in rows), rows


@pytest.mark.full
@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_library_with_common_heads(compiled: Submit, name: str, form: str) -> None:
    assert_fits(compiled(resources, name, form, "sm_90", 64, "bfloat16", 64).result())


@pytest.mark.full
@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_library_with_wide_heads(compiled: Submit, name: str, form: str) -> None:
    assert_fits(compiled(resources, name, form, "sm_90", 128, "bfloat16", None).result())


@pytest.mark.full
@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_backward_kernels_with_wide_heads(compiled: Submit, name: str, form: str) -> None:
    assert_fits(compiled(backward_resources, name, form, "sm_90", 128, "bfloat16", None).result())


@pytest.mark.full
@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_backward_kernels_of_every_form(compiled: Submit, name: str, form: str) -> None:
    assert compiled(backward_resources, name, form, "sm_90", 32, "bfloat16", 32).result()


@pytest.mark.full
@pytest.mark.parametrize("target", ["sm_80", "sm_100", "gfx942"])
@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_library_on_other_targets(compiled: Submit, name: str, form: str, target: str) -> None:
    assert compiled(resources, name, form, target, 64, "bfloat16", 64).result()


@pytest.mark.full
@pytest.mark.parametrize("target", ["sm_80", "sm_100", "gfx942"])
@pytest.mark.parametrize("name", CLASSES)
def test_backward_kernels_on_other_targets(compiled: Submit, name: str, target: str) -> None:
    assert compiled(backward_resources, name, "chunked", target, 64, "bfloat16", 64).result()


@pytest.mark.full
@pytest.mark.parametrize(("name", "form"), LIBRARY)
def test_library_in_float32(compiled: Submit, name: str, form: str) -> None:
    assert_uses_registers(compiled(resources, name, form, "sm_90", 128, "float32", None).result())


@pytest.mark.full
@pytest.mark.parametrize("name", ["linear_attention", "lion_lit_norm", "mlstm"])
def test_backward_kernels_in_float32(compiled: Submit, name: str) -> None:
    assert_uses_registers(compiled(backward_resources, name, "chunked", "sm_90", 128, "float32", None).result())


def assert_uses_registers(rows: list[tuple[Any, ...]]) -> None:
    """What spills has the registers of a multiprocessor, or 255 a thread."""
    assert rows and not [row for row in rows if row[3] and row[2] < min(255, (64 << 10) // (32 * row[4]))], rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"), [(n, f) if FIRST[n] == f else pytest.param(n, f, marks=pytest.mark.full) for n, f in OWN]
)
def test_every_operation_and_layout(compiled: Submit, name: str, form: str) -> None:
    """Small sizes, so that all axes are padded, in float32."""
    assert compiled(resources, SPECS[name], form, "sm_90", 12, "float32", 16).result()


def test_scans_stay_within_threads(compiled: Submit) -> None:
    """Each thread holds whole columns of a chunk, forward and backward: it asks no other for anything."""
    found = compiled(exchanges, "hgrn", "sm_90", 128).result()
    assert len(found) == 8
    assert not any(found.values()), found


def test_unknown_target_is_refused(compiled: Submit) -> None:
    with pytest.raises(BackendError, match="sm_12"):
        compiled(resources, "retnet", "step", "sm_12", 64, "bfloat16", 64).result()


def test_nothing_is_compiled_while_interpreting(interpreted: Submit) -> None:
    with pytest.raises(BackendError, match="TRITON_INTERPRET"):
        interpreted(resources, "retnet", "step", "sm_90", 64, "bfloat16", 64).result()


def test_table_marks_what_exceeds_its_limits() -> None:
    small, large = Resources("a", "sm_90", 1024, 100, 0, 4), Resources("b", "sm_90", 240 * 1024, 255, 0, 4)
    assert [row[-1] for row in table([small, large])] == ["within limits", "yes", "NO"]
    assert not Resources("c", "sm_90", 1024, 255, 4096, 4).within_limits
