"""Segments of masked operators: what is kept of the past, and every level against the whole sequence."""

from functools import cache

import numpy as np
import pytest

import smir
from smir.backends.numpy_reference import layout
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.backends.numpy_reference.tile_interpreter import run_tile_results
from smir.compilation import Compilation
from smir.errors import FormError
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir
from smir.ir.segment import past_of
from smir.ir.verifier import verify
from smir.passes.analysis.stops import unmarked
from smir.passes.pairs.pair_cache import PairCache
from smir.passes.pairs.pair_segment import divided_segment, lower_segment, pair_segment
from smir.sampling import sample
from tests.passes.pair_specs import PAIR_SPECS, QKV, text_of

LIBRARY = "softmax_causal softmax_window8 softmax_alibi softmax_gqa softmax_rope forgetting_attention mla".split()
CAUSAL = ["causal", "window", "strictly past", "segments", "decays", "preprocessed", "two heads in one", "two reads",
          "quotient"]  # fmt: skip


@cache
def compiled(name: str) -> Compilation:
    return smir.compile(text_of(name) if name in PAIR_SPECS else name).compilation


def test_a_past_is_divided_where_its_order_doesnt_count() -> None:
    assert compiled("softmax_causal").divided_segment is not None
    # sums go on from part to part; a window is short
    assert compiled("forgetting_attention").divided_segment is None
    assert compiled("softmax_window8").divided_segment is None


def kept(text: str) -> PairCache:
    program = smir.compile(f"mixer m\n {text}\n").compilation.pairs
    assert program is not None
    return pair_segment(program).cache


@pytest.mark.parametrize("name", [*LIBRARY, *CAUSAL])
def test_levels_are_verified_and_survive_their_text(name: str) -> None:
    program = compiled(name).pairs
    assert program is not None
    for ir in (lower_segment(program), pair_segment(program).plan, divided_segment(program)):
        if ir is not None:
            verify(ir)
            assert parse_ir(print_ir(ir)) == ir


@pytest.mark.parametrize("name", [*LIBRARY, *CAUSAL])
def test_a_segment_is_the_end_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = compiled(name)
    assert done.pairs is not None
    program, segment = unmarked(lower_segment(done.pairs)), pair_segment(done.pairs)
    divided = divided_segment(done.pairs)
    arrays = sample(done.spec, 2, 29, 2, seed=1)
    if name == "segments":
        arrays["s"] = np.floor(np.arange(29) / 6)[None, :, None] * np.ones((2, 1, 2))
    if "g" in arrays:
        arrays["g"][0, [7, 13]] = -np.inf
    whole = run_results(done.plans["quadratic"], arrays, chunk=8)[0]["y"]
    inputs = {d.name for d in done.spec.inputs}
    for count, longest in ((13, 1024), (13, 4), (28, 5), (1, 1024)):
        monkeypatch.setattr(layout, "LONGEST_PAST_CHUNK", longest)
        first = 0 if segment.cache.tokens is None else max(0, count - segment.cache.tokens)
        given = {n: a[:, count:] if n in inputs else a for n, a in arrays.items()}
        given |= {past_of(n): arrays[n][:, first:count] for n in segment.cache.inputs}
        found = [run_results(segment.plan, given, chunk=chunk, seen=count)[0]["y"] for chunk in (1, 4, 32)]
        if divided is not None:
            found.append(run_results(divided, given, chunk=4, seen=count)[0]["y"])
        if not segment.cache.absolute or not first:
            found.append(run_tile_results(program, given, chunk=4)[0]["y"])
        for y in found:
            np.testing.assert_allclose(y, whole[:, count:], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{QKV}\n y = softmax(q @ k.T, causal) @ v", PairCache(("k", "v"), None, False)),
        (f"{QKV}\n y = softmax(q @ k.T, window(5)) @ v", PairCache(("k", "v"), 4, False)),
        (f"{QKV}\n y = softmax(q @ k.T, window(1)) @ v", PairCache((), 0, False)),
        # a read without a bound needs all tokens
        (PAIR_SPECS["two reads"], PairCache(("k", "v"), None, False)),
        # gates between two positions; a gate of the row alone isn't kept
        (PAIR_SPECS["decays"], PairCache(("k", "v", "g"), None, False)),
        (f"{QKV}; input o: V\n y = sigmoid(o) * (softmax(q @ k.T, causal) @ v)", PairCache(("k", "v"), None, False)),
        # what stands on both sides
        ("input x: K\n y = softmax(x @ x.T, causal) @ x", PairCache(("x",), None, False)),
        # distances only, and numbers of positions
        (f"{QKV}; param m: scalar\n D[i, j] = m * (i - j)\n y = softmax(q @ k.T - D, window(3)) @ v",
         PairCache(("k", "v"), 2, False)),
        (f"{QKV}\n D[i, j] = (i - j) / i\n y = softmax(q @ k.T - D, window(3)) @ v", PairCache(("k", "v"), 2, True)),
        (f"{QKV}\n M[i, j] = where(i - 3 < j and j <= i and j > 4, 1, 0)\n y = softmax(q @ k.T, M) @ v",
         PairCache(("k", "v"), 2, True)),
        # a delay line of a key, which is kept too; one of a query
        (PAIR_SPECS["delayed"], PairCache(("v", "k__1"), None, False, (("k", (1,)),))),
        (f"{QKV}\n A[i, j] = q[i-2].T @ k[j] + q[i].T @ k[j-1]\n y = softmax(A, window(2)) @ v",
         PairCache(("k", "v", "k__1"), 1, False, (("q", (2,)), ("k", (1,))))),
    ],
)  # fmt: skip
def test_what_is_kept(text: str, expected: PairCache) -> None:
    assert kept(text) == expected


def test_a_position_without_a_past_has_no_segments() -> None:
    with pytest.raises(FormError, match="give the position as an input"):
        kept(f"{QKV}\n D[i, j] = i\n y = softmax(q @ k.T * D, window(1)) @ v")
