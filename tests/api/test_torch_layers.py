"""Layers and compiled mixers among torch's tools: export, copies, autocast, meta devices."""

import copy
import io
import pickle
from pathlib import Path
from subprocess import run
from sys import executable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import smir
from smir.nn import Mixer


def arguments(name: str = "gated_delta_rule") -> dict[str, Any]:
    return {n: torch.from_numpy(a).float() for n, a in smir.sample(smir.compile(name).spec, B=2, T=20, H=2).items()}


@pytest.mark.parametrize("name", ["retnet", pytest.param("s4d", marks=pytest.mark.full)])
def test_a_layer_in_one_graph(name: str) -> None:
    torch._dynamo.reset()  # graphs of another mixer's layer would count as recompilations
    layer = Mixer(name, 32, 2)
    traced = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for T in (17, 40):
            x = torch.randn(2, T, 32)
            found, expected = (
                torch.autograd.grad(call(x).square().sum(), list(layer.parameters())) for call in (traced, layer)
            )
            assert_close(found, expected, rtol=1e-4, atol=1e-4)


LOADED = """
import sys, torch, smir.torch_side.operators
program = torch.export.load(sys.argv[1])
print(program.module()(torch.ones(2, 9, 32)).sum().item())
"""


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_exported_layer_runs_in_another_process(tmp_path: Path) -> None:
    layer, path = Mixer("gla", 32, 2), tmp_path / "layer.pt2"
    lengths = {"x": {1: torch.export.Dim("T", min=2, max=4096)}}
    program = torch.export.export(layer, (torch.randn(2, 20, 32),), dynamic_shapes=lengths)
    assert any(node.target is torch.ops.smir.mix.default for node in program.graph.nodes)
    for T in (5, 33):
        x = torch.randn(2, T, 32)
        assert_close(program.module()(x), layer(x))
    torch.export.save(program, path)
    done = run([executable, "-c", LOADED, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(layer(torch.ones(2, 9, 32)).sum().item(), rel=1e-4, abs=1e-4)


def test_copies() -> None:
    mixer, given = smir.compile("gated_delta_rule", form="chunked", chunk=8), arguments()
    expected = mixer(**given)
    read = pickle.loads(pickle.dumps(mixer))
    assert read is not mixer and read.asked == mixer.asked and read.forms == mixer.forms
    assert not read.calls.prepared.known
    for twin in (read, copy.deepcopy(mixer), copy.copy(mixer)):
        assert torch.equal(twin(**given), expected)


def test_copies_of_a_layer() -> None:
    layer, x = Mixer("gla", 32, 2), torch.randn(2, 9, 32)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))
        assert all(a is not b for a, b in zip(twin.parameters(), layer.parameters(), strict=True))
    memory = io.BytesIO()
    torch.save(layer.state_dict(), memory)
    memory.seek(0)
    with torch.device("meta"):
        empty = Mixer("gla", 32, 2)
    assert all(p.is_meta for p in empty.parameters())
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(torch.load(memory))
    assert torch.equal(empty(x), layer(x))


@pytest.mark.parametrize("traced", [False, True])
def test_autocast_takes_vectors_in_its_type(traced: bool) -> None:
    mixer, given = smir.compile("gated_delta_rule"), {n: t.requires_grad_() for n, t in arguments().items()}

    def call(**given: Any) -> Any:
        return mixer(**given, return_state=True)

    low = {
        n: t.detach().to(torch.bfloat16 if n in ("q", "k", "v") else t.dtype).requires_grad_() for n, t in given.items()
    }
    run = torch.compile(call, fullgraph=True, backend="aot_eager") if traced else call
    expected, state = run(**low)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, final = run(**given)
        assert mixer(**{n: t.double() for n, t in given.items()}).dtype == torch.float64
    assert found.dtype == torch.bfloat16 and final["S"].dtype == torch.float32
    assert torch.equal(found, expected) and torch.equal(final["S"], state["S"])
    gradients = torch.autograd.grad(found.float().sum(), list(given.values()))
    assert all(g.dtype == torch.float32 for g in gradients)
