"""Work for a process whose Triton is the interpreter: a traced training step beside an eager one."""

import json
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import smir


class Operators(TorchDispatchMode):  # type: ignore[misc]
    """Notes the operators of this project and their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "smir":
            self.seen.append((func, tree_map_only(torch.Tensor, torch.Tensor.detach, args)))
        return func(*args, **(kwargs or {}))


def check(name: str, form: str, kept: int) -> None:
    """Both give the same bits, and the operators are sound."""
    mixer = smir.compile(name, form=form, backend="triton", chunk=None if form == "step" else 16)
    drawn = smir.sample(mixer.spec, B=1, T=32, H=1, sizes={"K": 16, "V": 16})
    given = {n: torch.from_numpy(a).float().requires_grad_() for n, a in drawn.items()}
    expected = torch.autograd.grad(mixer(**given).square().sum(), list(given.values()))
    with Operators() as operators:
        found = torch.autograd.grad(mixer(**given).square().sum(), list(given.values()))
    assert all(map(torch.equal, found, expected))
    assert [func.name() for func, _ in operators.seen] == ["smir::forward", "smir::backward"]
    args, back = (args for _, args in operators.seen)
    assert len(json.loads(args[1])["kept"]) == len(json.loads(back[2])["kept"]) == kept
    for func, given_to in operators.seen:
        torch.library.opcheck(func, given_to, test_utils=("test_schema", "test_faketensor"))
