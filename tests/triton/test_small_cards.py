"""GPUs with little shared memory: kernels get smaller until they fit, or say that they cannot; memory that is full."""

import pytest
import torch

from smir.backends.triton_gpu import runtime
from smir.backends.triton_gpu.fitting import fit, narrower
from smir.backends.triton_gpu.options import default_chunk
from smir.errors import BackendError
from tests.triton.classes import LIBRARY
from tests.triton.conftest import Submit
from tests.triton.work import fitted, step_without_memory

KIB = 1024
AMPERE, TURING = 99 * KIB, 64 * KIB
WIDE = {"K": 512, "V": 512}
OPTIONS = {"BLOCK_K": 32, "BLOCK_V": 64, "num_warps": 4, "num_stages": 2}
SOME = [("scalar_decay", "chunked"), ("delta_rule", "chunked"), ("softmax_causal", "quadratic")]


def test_chunks_are_shorter_where_shared_memory_is_small() -> None:
    assert default_chunk(WIDE, False, shared_limit=227 * KIB) == default_chunk(WIDE, False) == 64
    assert default_chunk(WIDE, False, shared_limit=AMPERE) == 32
    assert default_chunk(WIDE, True, shared_limit=AMPERE) == 16
    assert default_chunk({"K": 128, "V": 128}, False, shared_limit=TURING) == 64


def test_blocks_get_narrower_until_a_kernel_fits() -> None:
    """One after the other: fewer overlapped loads, then half the widest block."""
    options, seen = {"large": dict(OPTIONS), "small": dict(OPTIONS)}, []

    def sizes() -> dict[str, int]:
        o = options["large"]
        seen.append((o["num_stages"], o["BLOCK_K"], o["BLOCK_V"]))
        return {"large": o["num_stages"] * o["BLOCK_K"] * o["BLOCK_V"] * 64, "small": KIB}

    fit(sizes, options, AMPERE, 64)
    assert seen == [(2, 32, 64), (1, 32, 64), (1, 32, 32)] and options["small"] == OPTIONS


def test_the_smallest_blocks_are_the_end() -> None:
    assert narrower({"BLOCK_K": 16, "num_warps": 4, "num_stages": 1}) is None
    with pytest.raises(BackendError, match=r"kernel large needs 120 KB .* 99 KB") as refused:
        fit(lambda: {"large": 120 * KIB}, {"large": dict(OPTIONS)}, AMPERE, 64)
    assert "chunk=32" in str(refused.value)


def test_nothing_is_launched_before_all_kernels_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a call that was refused is refused again, not launched."""
    launched: list[str] = []
    monkeypatch.setattr(runtime, "shared_limit", lambda device: AMPERE)
    monkeypatch.setattr(runtime, "compile_together", lambda *_: {"a": KIB, "b": 400 * KIB})
    ready = runtime.Launch(
        launch=lambda *_, **__: launched.append("a"),
        inputs=(("x", "token"),),
        buffers=(),
        initial=(),
        keywords={"options": {"a": dict(OPTIONS), "b": dict(OPTIONS)}, "chunk": 16},
        forward=True,
        packed=False,
        segment=False,
        tokens=1,
        final={},
        cold=["a", "b"],
    )
    for _ in range(2):
        with pytest.raises(BackendError, match="kernel b needs 400 KB of shared memory"):
            ready({"x": torch.zeros(1, 1, 1)}, {})
    assert not launched


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"), [case if case in SOME else pytest.param(*case, marks=pytest.mark.full) for case in LIBRARY]
)
def test_common_heads_fit_a_small_card(compiled: Submit, name: str, form: str) -> None:
    found = compiled(fitted, name, form, "sm_86", AMPERE, False).result()
    assert found and max(found.values()) <= AMPERE, found


@pytest.mark.full
@pytest.mark.parametrize("name", ["scalar_decay", "gla", "delta_rule", "kda", "gated_delta_rule", "softmax_causal"])
def test_training_with_common_heads_fits_a_small_card(compiled: Submit, name: str) -> None:
    form = "quadratic" if name.startswith("softmax") else "chunked"
    found = compiled(fitted, name, form, "sm_86", AMPERE, True).result()
    assert found and max(found.values()) <= AMPERE, found


@pytest.mark.parametrize("name", ["gated_delta_rule"])
def test_memory_that_is_not_there_leaves_states_as_they_were(interpreted: Submit, name: str) -> None:
    """A step in place, and the same step again when there is memory."""
    assert interpreted(step_without_memory, name).result() == {
        "raised": True,
        "explained": True,
        "kept": True,
        "again": True,
    }
