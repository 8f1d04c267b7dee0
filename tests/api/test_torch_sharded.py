"""Layers whose parameters are shared out between processes (`fully_shard`): a training step is that of one process."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import smir
from smir.nn import Mixer

PROCESSES, WIDTH, ROWS, TOKENS = 2, 12, 4, 9
# Gates, parameters of the spec, an odd number of rows to share out; and a softmax.
SPECS = ("gated_delta_rule", "mamba2_ssd", "softmax_causal")


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(Mixer(spec, WIDTH, heads=3, dtype=torch.float64) for spec in SPECS))


def batch() -> Tensor:
    return torch.randn(ROWS, TOKENS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss_of(network: nn.Module, x: Tensor) -> Tensor:
    return network(x).square().mean()


def step(network: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the parameters after a step of SGD."""
    torch.optim.SGD(network.parameters(), lr=0.1).zero_grad()
    loss = loss_of(network, x)
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    return loss.detach(), dict(network.named_parameters())


def sharded_step(rank: int, port: int, folder: str) -> None:
    """What each process does: its rows of the batch, on its share of the parameters."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    try:
        network: Any = model()
        mesh = dist.device_mesh.init_device_mesh("cpu", (PROCESSES,))
        for layer in network:
            fully_shard(layer, mesh=mesh)
        fully_shard(network, mesh=mesh)
        loss, after = step(network, batch().chunk(PROCESSES)[rank])
        local = sum(p.to_local().numel() for p in after.values())
        gradients = {name: p.grad.full_tensor() for name, p in after.items() if p.grad is not None}
        whole = {name: p.detach().full_tensor() for name, p in after.items()}
        torch.save((loss, local, gradients, whole), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_whole_parameters_may_be_freed_after_a_call() -> None:
    """As `fully_shard` does between the forward and the backward pass: nothing on the CPU holds on to their memory."""
    mixer = smir.compile("scalar_decay")
    given = {n: torch.from_numpy(a).clone().requires_grad_() for n, a in smir.sample(mixer.spec, T=5).items()}
    kept = {n: a.detach().clone() for n, a in given.items()}
    expected = torch.autograd.grad(mixer(**given).square().sum(), list(given.values()))
    loss = mixer(**given).square().sum()
    for name, a in given.items():
        size = a.untyped_storage().nbytes()
        a.untyped_storage().resize_(0)
        a.untyped_storage().resize_(size)
        with torch.no_grad(), torch.autograd._unsafe_preserve_version_counter(a):
            a.copy_(kept[name])
    found = torch.autograd.grad(loss, list(given.values()))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.full
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no processes")
def test_a_training_step_of_shared_out_parameters(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(sharded_step, (free_port(), str(tmp_path)), PROCESSES)
    loss, after = step(alone := model(), batch())
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)]
    torch.testing.assert_close(sum(f[0] for f in found) / PROCESSES, loss, rtol=1e-12, atol=0)
    assert all(f[1] < 0.7 * sum(p.numel() for p in alone.parameters()) for f in found)
    for _, _, gradients, whole in found:
        assert set(gradients) == set(after)
        for name, p in after.items():
            torch.testing.assert_close(gradients[name], p.grad, rtol=1e-9, atol=1e-13)
            torch.testing.assert_close(whole[name], p.detach(), rtol=1e-12, atol=1e-13)
