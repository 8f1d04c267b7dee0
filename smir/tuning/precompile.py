"""Kernels compiled before anything runs, on arguments without data: Triton finds them later, and some are refused.
The backend's rules say which.
"""

from collections.abc import Mapping
from typing import Any

from smir.calls.execution import cut_in_time
from smir.compiler import compile_spec
from smir.errors import SmirError
from smir.ir.mixer import INPUT
from smir.tuning.passes import passes_of
from smir.tuning.problem import Candidate, Problem

COMPILED, FAILED = "compiled", "failed"


class Compiler:
    """Compiles kernels of one problem for the device that it names."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.done = compile_spec(problem.spec_source)
        self.arrays, self.cotangent = self._without_data()

    def compile(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The kernel that a candidate (`timed`) is about; `target` is what to compile for."""
        from smir.backends.triton_gpu import tuning

        candidate = Candidate.from_json(request["candidate"])
        assert candidate.timed is not None, "one kernel at a time"
        side, name = candidate.timed
        recorded: dict[str, Any] = {}

        def prepare(which: str, plan: Any, arrays: Mapping[str, Any]) -> Any:
            options = {k: dict(o) for k, o in candidate.options.get(which, {}).items()}
            cut = cut_in_time(plan, arrays, candidate.chunk)
            results, recorded[which] = tuning.launches_on(cut, arrays, candidate.chunk, options)
            return lambda *given: (results, {})

        try:
            asked = passes_of(self.done, self.problem, candidate.form, candidate.chunk)
            asked.run(prepare, self.arrays, self.cotangent)
            found = tuning.compile_kernel(recorded[side], name, request["target"])
        except SmirError as error:
            return {"kind": FAILED, "reason": str(error)[:500]}
        return {"kind": COMPILED, "refused": found.refused, "shared": found.resources.shared,
                "registers": found.resources.registers, "stack": found.resources.stack}  # fmt: skip

    def _without_data(self) -> tuple[dict[str, Any], Any]:
        import torch

        shape, spec = self.problem.shape, self.done.spec
        sizes = {**shape.sizes, "T": shape.tokens}

        def empty(lead: tuple[int, ...], dims: Any, dtype: str) -> Any:
            size = (*lead, *(d.size(sizes) for d in dims))
            return torch.empty(size, dtype=getattr(torch, dtype), device="meta")

        arrays = {
            d.name: empty((shape.batch, shape.tokens, shape.heads[d.name]) if d.kind == INPUT else (shape.most_heads,),
                          d.dims, self.problem.dtypes[d.name])
            for d in spec.declarations
        }  # fmt: skip
        lead = (shape.batch, shape.tokens, shape.most_heads)
        return arrays, empty(lead, spec.output_dims, self.problem.dtype)
