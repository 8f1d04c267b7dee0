"""Gradients that are differences of large parts, where operands of products are rounded to bfloat16 as in kernels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import smir
from smir.backends.numpy_reference.plan_interpreter import run_results
from smir.backends.numpy_reference.tile_ops import TILE_OPS
from smir.backends.triton_gpu.precise import is_precise
from smir.derivatives import adjoint_plan
from smir.ir import tile
from smir.ir.graph import Node, rebuild, walk
from smir.ir.kernel import Kernel, KernelPlan
from smir.ir.tile import CHUNK, ONE
from smir.ir.tile_program import CHUNKED
from smir.passes.gradients.ratios import shared_rows
from smir.sampling import common_sizes, sample

p = tile.pointwise
SIZE, TOKENS, CHUNK_TOKENS = 64, 128, 64
BUDGET = 2.0


def nearest(x: np.ndarray) -> np.ndarray:
    """Rounded to bfloat16, in the array's own type."""
    return torch.from_numpy(np.ascontiguousarray(x)).bfloat16().to(torch.float64).numpy().astype(x.dtype)


def short(node: Node) -> Node:
    """A product of 16-bit operands; of a precise one, of its high and its low part."""
    if node.op != "dot" or ONE in (node.type.rows, node.type.cols, node.args[0].type.cols):
        return node
    a, b = (p("rounded", x) for x in node.args)
    found = tile.dot(a, b)
    for side, (x, high) in enumerate(zip(node.args, (a, b), strict=True)):
        inner = x.args[0] if x.op == "transpose" else x
        if inner.op == "precise":
            low = p("rounded", p("sub", x, high))
            found = p("add", found, tile.dot(*((low, b) if side == 0 else (a, low))))
    return found


def with_short_products(plan: KernelPlan) -> KernelPlan:
    """The plan as a GPU computes it, whose `rounded` the test replaces."""
    done: dict[Node, Node] = {}

    def made(root: Node) -> Node:
        for node in walk([root]):
            if node not in done:
                done[node] = short(rebuild(node, (done[a] for a in node.args)))
        return done[root]

    def kernel(k: Kernel) -> Kernel:
        stores = tuple(replace(s, value=made(s.value)) for s in k.stores)
        loops = tuple(
            replace(
                x,
                scan=replace(x.scan, carries=tuple(replace(c, next=made(c.next)) for c in x.scan.carries)),
                stores=tuple(replace(s, value=made(s.value)) for s in x.stores),
            )
            for x in k.loops
        )
        return replace(k, stores=stores, loops=loops)

    return replace(plan, kernels=tuple(map(kernel, plan.kernels)))


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


@pytest.mark.parametrize(("name", "gradient", "seed"), [
    ("linear_attention_elu_norm", "d_q", 3),
    ("mamba3", "d_theta", 3),
    ("abc", "d_q", 10),
    ("abc", "d_k", 11),
])  # fmt: skip
def test_what_cancels_keeps_the_digits_of_bfloat16(
    name: str, gradient: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A normaliser's queries; an angle, whose gradient is a sum over tokens; slots that hold nearly the same."""
    mixer = smir.compile(name)
    plan = adjoint_plan(mixer.compilation, CHUNKED, frozenset({gradient.removeprefix("d_")}))
    exact = sample(mixer.spec, 1, TOKENS, 1, common_sizes(mixer.spec, SIZE), seed=seed)
    dims = [d.size(common_sizes(mixer.spec, SIZE)) for d in mixer.spec.output_dims]
    exact["d_y"] = np.random.default_rng(0).standard_normal((1, TOKENS, 1, *dims))
    given = {n: nearest(x) for n, x in exact.items()}

    def run(plan: KernelPlan, arrays: dict[str, np.ndarray]) -> np.ndarray:
        return run_results(plan, arrays, chunk=CHUNK_TOKENS)[0][gradient].astype(np.float64)

    truth, ideal = run(plan, exact), run(plan, given)
    monkeypatch.setitem(TILE_OPS, "rounded", nearest)
    found = run(with_short_products(plan), {n: x.astype(np.float32) for n, x in given.items()})
    assert rms(nearest(found) - truth) <= BUDGET * rms(nearest(ideal) - truth)


def test_sums_of_parts_of_a_convolution_are_rounded_once() -> None:
    mixer = smir.compile("s4d_real", form="convolution", backend="numpy")
    exact = sample(mixer.spec, 1, 37, 2, common_sizes(mixer.spec, 8), seed=3)

    def gradient(arrays: dict[str, np.ndarray], kind: torch.dtype) -> np.ndarray:
        given = {n: torch.from_numpy(x).to(kind).requires_grad_() for n, x in arrays.items()}
        mixer(**given).square().sum().backward()
        return given["u"].grad.double().numpy()

    given = {n: nearest(x) for n, x in exact.items()}
    found, ideal = gradient(given, torch.bfloat16), gradient(given, torch.float64)
    assert rms(found - ideal) <= 1.5 * rms(nearest(ideal) - ideal)


# ---- which quotients ----------------------------------------------------------------------------------------------

q, k = tile.token("q", CHUNK, "K"), tile.token("k", CHUNK, "K")
S, z = tile.carried("S", "K", "V"), tile.carried("z", "K", ONE)
SCORES = tile.mask(tile.dot(q, tile.transpose(k)), "lower")
ABOVE = p("add", tile.dot(SCORES, tile.token("v", CHUNK, "V")), tile.dot(q, S))
BELOW = p("add", tile.reduce_sum(SCORES, 1), tile.dot(q, z))


def test_both_sides_are_linear_in_the_queries() -> None:
    assert shared_rows(p("div", ABOVE, BELOW)) is q


@pytest.mark.parametrize(
    ("above", "below"),
    [
        (ABOVE, p("max", BELOW, tile.const(1.0))),
        (ABOVE, p("add", BELOW, tile.const(1.0))),
        (ABOVE, tile.reduce_sum(p("mul", q, q), 1)),
        (tile.dot(tile.dot(q, tile.transpose(q)), tile.token("v", CHUNK, "V")), tile.dot(q, z)),
        (tile.dot(k, S), tile.dot(q, z)),
        (tile.cumsum(tile.dot(q, S)), BELOW),
    ],
)
def test_scaling_the_queries_changes_these(above: Node, below: Node) -> None:
    """A bound, a constant, squares, scores of queries with queries, other rows, rows that read earlier ones."""
    assert shared_rows(p("div", above, below)) is None


# ---- which averages -----------------------------------------------------------------------------------------------


def precise_sides(name: str) -> list[tuple[str, str, str]]:
    """Of the products with a precise side in a mixer's gradients: rows, columns and which sides."""
    plan = adjoint_plan(smir.compile(name).compilation, CHUNKED, frozenset({"q", "k", "s"}))
    products = {n for k in plan.kernels for n in walk(k.roots()) if n.op == "dot"}
    found = {n: "".join("lr"[i] for i, a in enumerate(n.args) if is_precise(a)) for n in products}
    return sorted({(n.type.rows, n.type.cols, sides) for n, sides in found.items() if sides})


def test_shares_of_slots_that_a_softmax_weighs_are_precise() -> None:
    """Where the product keeps the slots, the shares alone; where it contracts them, both sides."""
    assert precise_sides("abc") == [(CHUNK, CHUNK, "lr"), (CHUNK, "M", "r")]


def test_slots_that_hold_sums_are_left() -> None:
    assert precise_sides("gsa") == []
