"""Per-token expressions as rows of a chunk, against the oracle's evaluation."""

import numpy as np
import pytest

from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.backends.numpy_reference.tile_interpreter import run_tile
from smir.errors import FormError
from smir.frontends import parse_mixer
from smir.ir.tile import CHUNK
from smir.ir.tile_program import CHUNKED, Output, TileProgram
from smir.passes.tiles.leaves import with_leaves
from smir.passes.tiles.rowwise import Rowwise
from smir.source import Source

HEAD = """mixer rows
 input q, k: K; input v: V; input g: scalar; input a: K/2
 param W: V, K; param u: K
"""
EXPRESSIONS = [
    "v[t] * (q[t].T @ k[t])",
    "W @ q[t] - v[t-1]",
    "(q[t].T @ W.T).T + v[t+2]",
    "(v[t] @ k[t].T + W) @ q[t]",
    "(v[t] @ k[t].T - 2 * W).T @ v[t]",
    "W @ (diag(exp(g[t]) * u) @ q[t])",
    "W @ ((eye(K) - k[t] @ k[t].T) @ q[t])",
    "W @ (rot(a[t]) @ q[t])",
    "W @ (rot(a[t]).T @ (u * k[t]))",
    "v[t] * sum(q[t] * u, K)",
    "sum(v[t] @ k[t].T, K)",
    "softmax(v[t].T).T",
    "v[t] * (ones(K).T @ silu(q[t]))",
    "(g[t] * W) @ q[t] / 3",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expression(text: str) -> None:
    mixer = parse_mixer(Source("rows", f"{HEAD} y[t] = {text}"))
    output = Rowwise(mixer).rows(mixer.output)
    assert output.type.rows == CHUNK
    program = with_leaves(mixer, TileProgram("rows", CHUNKED, (), (), (Output.of("y", output),)))
    rng = np.random.default_rng(0)
    sizes = {"K": 4, "V": 3}
    arrays = {
        d.name: rng.normal(size=((2, 7, 2) if d.kind == "input" else (2,)) + tuple(x.size(sizes) for x in d.dims))
        for d in mixer.declarations
    }
    y, _ = run_mixer(mixer, arrays)
    got, _ = run_tile(program, arrays, chunk=3)
    np.testing.assert_allclose(got, y, atol=1e-12)


def test_a_matrix_of_every_token_is_refused_with_its_place() -> None:
    mixer = parse_mixer(Source("rows", f"{HEAD} y[t] = tanh(v[t] @ k[t].T) @ q[t]"))
    with pytest.raises(FormError, match="V x K `tanh` for every token") as caught:
        Rowwise(mixer).vector(mixer.output)
    assert "step" in (caught.value.hint or "")
