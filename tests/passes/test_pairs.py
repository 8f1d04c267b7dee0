"""Pair reads: what is recognised, and every level and every gradient against the oracle."""

from functools import cache

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.pair_interpreter import run_pairs
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.backends.numpy_reference.tile_interpreter import run_tile_results
from smir.compilation import Compilation
from smir.compiler import Options, compile_spec
from smir.derivatives import gradients
from smir.errors import IRError
from smir.ir.expr import const
from smir.ir.pairs import SOFTMAX, SUM, PairProgram, PairRead
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.tile_program import QUADRATIC
from smir.ir.verifier import verify
from smir.passes.analysis.stops import unmarked
from smir.passes.pairs.pair_distances import Distances, admitted
from smir.sampling import sample
from smir.source import Source
from tests.passes.pair_specs import PAIR_SPECS, text_of

SIZES = {"K": 4, "V": 3, "D": 5}


@cache
def compiled(name: str) -> Compilation:
    return compile_spec(Source("<spec>", text_of(name)), Options(verify_each=True))


def pairs(name: str) -> PairProgram:
    found = compiled(name).pairs
    assert found is not None
    return found


def arrays_of(name: str, T: int = 21) -> dict[str, np.ndarray]:
    done = compiled(name)
    sizes = {n: s for n, s in SIZES.items() if any(n in x.names for d in done.spec.declarations for x in d.dims)}
    arrays = sample(done.spec, 2, T, 2, sizes, seed=1)
    if "s[i] == s[j]" in text_of(name):
        arrays["s"] = np.floor(np.arange(T) / 6)[None, :, None] * np.ones((2, 1, 2))
    if "g" in arrays:
        arrays["g"][0, 7] = -np.inf
    return arrays


@pytest.mark.parametrize("name", PAIR_SPECS)
def test_levels_are_verified_and_survive_their_text(name: str) -> None:
    done = compiled(name)
    assert done.forms == (QUADRATIC,)
    adjoint = gradients(done, QUADRATIC, frozenset(d.name for d in done.spec.declarations))
    training = adjoint.training
    assert training is not None
    for ir in (done.pairs, done.tiles[QUADRATIC], done.plans[QUADRATIC], adjoint.adjoint, training.backward):
        assert ir is not None
        verify(ir)
        assert parse_ir(print_ir(ir)) == ir


@pytest.mark.parametrize("name", PAIR_SPECS)
def test_every_level_agrees_with_the_oracle(name: str) -> None:
    done, arrays = compiled(name), arrays_of(name)
    truth, _ = run_mixer(done.spec, arrays)
    np.testing.assert_allclose(run_pairs(pairs(name), arrays), truth, atol=1e-12)
    tiles, _ = run_tile_results(unmarked(done.tiles[QUADRATIC]), arrays, chunk=4)
    np.testing.assert_allclose(tiles["y"], truth, atol=1e-12)
    for chunk in (1, 4, 8, 32):
        found, _ = run_results(done.plans[QUADRATIC], arrays, chunk=chunk)
        np.testing.assert_allclose(found["y"], truth, atol=1e-12)


@pytest.mark.parametrize("name", PAIR_SPECS)
def test_the_printed_numpy_program(name: str) -> None:
    mixer, arrays = smir.compile(text_of(name)), arrays_of(name)
    scope: dict[str, object] = {}
    exec(compile(mixer.source("numpy"), name, "exec"), scope)
    y, _ = scope["run"](*(arrays[d.name] for d in mixer.spec.declarations), chunk=8)  # type: ignore[operator]
    np.testing.assert_allclose(y, run_mixer(mixer.spec, arrays)[0], atol=1e-12)


@pytest.mark.parametrize("name", PAIR_SPECS)
def test_gradients(name: str) -> None:
    """Slopes of the oracle along random directions; all chunk sizes and the tile program agree."""
    done, arrays = compiled(name), arrays_of(name)
    rng = np.random.default_rng(2)
    d_y = rng.standard_normal(run_mixer(done.spec, arrays)[0].shape)
    wanted = [n for n in arrays if n != "s"]
    made = gradients(done, QUADRATIC, frozenset(wanted))
    assert made.plan is not None and made.adjoint is not None
    given = {**arrays, "d_y": d_y}
    found, _ = run_results(made.plan, given, chunk=32)
    assert set(found) == {f"d_{n}" for n in wanted}
    others = [run_results(made.plan, given, chunk=c)[0] for c in (1, 4)]
    others.append(run_tile_results(made.adjoint, given, chunk=6)[0])
    for n in wanted:
        direction = rng.standard_normal(arrays[n].shape)
        steps = [run_mixer(done.spec, {**arrays, n: arrays[n] + h * direction})[0] for h in (1e-5, -1e-5)]
        slope = float(np.sum((steps[0] - steps[1]) * d_y) / 2e-5)
        expected = float(np.sum(found[f"d_{n}"] * direction))
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-7), n
        for other in others:
            np.testing.assert_allclose(other[f"d_{n}"], found[f"d_{n}"], atol=1e-11)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("causal", [SOFTMAX]), ("quotient", [SOFTMAX]), ("dense", [SOFTMAX]), ("two heads in one", [SOFTMAX, SOFTMAX]),
     ("plain weights", [SUM])],
)  # fmt: skip
def test_kinds_of_reads(name: str, kinds: list[str]) -> None:
    assert [r.kind for r in pairs(name).reads] == kinds


@pytest.mark.parametrize(
    ("name", "distances"),
    [("causal", Distances(low=0)), ("no mask", Distances()), ("window", Distances(0, 4)),
     ("both sides", Distances(-3, 3)), ("strictly past", Distances(low=1)), ("globals", Distances()),
     ("window of one", Distances(0, 0)), ("blocks", Distances(-5, 5)), ("segments", Distances(low=0))],
)  # fmt: skip
def test_distances_that_a_mask_admits(name: str, distances: Distances) -> None:
    assert admitted(pairs(name).reads[0].mask) == distances


@pytest.mark.parametrize(
    ("name", "loops"),
    [("causal", [("earlier", None)]), ("window", [("earlier", 4)]), ("no mask", [("earlier", None), ("later", None)]),
     ("both sides", [("earlier", 3), ("later", 3)]), ("only the future", [("later", None)]), ("window of one", [])],
)  # fmt: skip
def test_chunks_that_the_mask_rules_out_are_not_visited(name: str, loops: list[tuple[str, int | None]]) -> None:
    (kernel,) = compiled(name).plans[QUADRATIC].kernels
    first, *others = ((loop.scan.order, loop.scan.reach) for loop in kernel.loops)
    assert first == ("itself", None) and others == loops


def test_large_scores_neither_overflow_nor_vanish() -> None:
    done, arrays = compiled("causal"), arrays_of("causal")
    arrays["q"] = 1e4 * arrays["q"]
    found, _ = run_results(done.plans[QUADRATIC], {n: a.astype(np.float32) for n, a in arrays.items()}, chunk=4)
    assert np.isfinite(found["y"]).all()
    # rounding moves a score by far more than one: only the largest one counts, and that is the same
    np.testing.assert_allclose(found["y"], run_mixer(done.spec, arrays)[0], atol=1e-3)


def test_what_has_no_tile_runs_as_written() -> None:
    mixer = smir.compile(f"mixer m\n {PAIR_SPECS['causal'].splitlines()[0]}\n A[i, j] = sum(m, 1, i, q[m].T @ k[j])\n"
                         " y = softmax(A, causal) @ v\n")  # fmt: skip
    assert mixer.forms == ("direct",)
    assert "not expressible on pairs of chunks" in str(mixer.explain())


def test_a_softmax_mixer_has_no_state() -> None:
    mixer, arrays = smir.compile(text_of("causal")), arrays_of("causal")
    with pytest.raises(smir.SmirError, match="m has no state 'S'"):
        mixer(**arrays, state={"S": np.zeros((2, 2, 4, 3))})
    with pytest.raises(smir.SmirError, match="m has no step form"):
        smir.compile(text_of("causal"), form="step")


def test_the_verifier_refuses_reads_that_make_no_sense() -> None:
    program = pairs("causal")
    (read,) = program.reads
    for wrong in (
        PairRead(read.name, "mean", read.scores),
        PairRead(read.name, SUM, read.scores, value=read.value, channels=read.value),
        PairRead(read.name, SOFTMAX, const(0.0), channels=read.value),
    ):
        with pytest.raises(IRError):
            verify(PairProgram(program.mixer, program.vectors, (wrong,), program.output))
