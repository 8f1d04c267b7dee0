"""The backends: what each needs to run a bound call and to print a program. One entry of a table per backend."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smir.array_kinds import TORCH, to_numpy
from smir.binding import Bound
from smir.compiler import DIRECT, Compilation
from smir.errors import BackendError, FormError
from smir.ir.kernel import KernelPlan
from smir.ir.sizes import TIME_NAME
from smir.ir.tile import OUTPUT, STEP

if TYPE_CHECKING:
    from smir.passes.select_form import Machine

Results = tuple[Any, Mapping[str, Any]]
Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Backend:
    """`run` gives y and the final states of a call in canonical layout; `sources` the program's files by name.

    `run_plan(plan, arrays, states, chunk)` runs any plan, forward or adjoint, on the caller's arrays: its tensors by
    name (results, and the values it keeps) and its final states. `chunk_for` gives the tokens a chunk of a call in this
    form that doesn't say.
    """

    name: str
    machine_name: str
    run: Callable[[Compilation, str, Bound, int], Results]
    run_plan: Callable[[KernelPlan, Arrays, Arrays, int], tuple[Arrays, Arrays]]
    sources: Callable[[Compilation, str, int], dict[str, str]]
    chunk_for: Callable[[str, Bound], int]

    @property
    def machine(self) -> "Machine":
        """Its rates; loaded when a form is chosen, because the cost model needs sympy."""
        from smir.passes.select_form import MACHINES

        return MACHINES[self.machine_name]


def find_backend(name: str) -> Backend:
    """Raises BackendError for an unknown name."""
    if name not in tuple(BACKENDS):
        raise BackendError(f"there is no backend {name!r}", hint=f"one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def backend_for(bound: Bound) -> str:
    """CUDA tensors run on Triton kernels, everything else on numpy."""
    return "triton" if bound.device.startswith("cuda") else "numpy"


def _run_numpy(done: Compilation, form: str, bound: Bound, chunk: int) -> Results:
    from smir.backends.numpy_reference.mixer_interpreter import run_mixer

    if form == DIRECT:
        return run_mixer(done.spec, *bound.numpy())
    results, final = _run_numpy_plan(done.plans[form], bound.arrays, bound.states, chunk)
    return results[OUTPUT], final


def _run_numpy_plan(plan: KernelPlan, arrays: Arrays, states: Arrays, chunk: int) -> tuple[Arrays, Arrays]:
    """CPU tensors of 32 and 64 bits share their memory with the arrays that this runs on."""
    from smir.backends.numpy_reference.plan_interpreter import run_results

    read = {leaf.name for leaf in plan.leaves} | {b.name for b in plan.given}
    return run_results(plan, _native({n: arrays[n] for n in read}), _native(states), chunk=chunk)


def _native(arrays: Arrays) -> dict[str, Any]:
    """As numpy arrays, 16-bit floats as 32-bit ones: numpy has no fast arithmetic for them."""
    found = {name: to_numpy(a) for name, a in arrays.items()}
    return {name: a.astype("float32") if a.dtype.itemsize < 4 else a for name, a in found.items()}


def _numpy_sources(done: Compilation, form: str, chunk: int) -> dict[str, str]:
    from smir.backends.numpy_reference.emit import emit_numpy

    return {f"{done.spec.name}_{form}.py": emit_numpy(_plan(done, form, "numpy"), chunk=chunk)}


def _numpy_chunk(form: str, bound: Bound) -> int:
    return find_backend("numpy").machine.chunk_of(form, bound.tokens)


def _triton_chunk(form: str, bound: Bound) -> int:
    from smir.backends.triton_gpu.options import default_chunk

    short = {a.dtype for a in bound.arrays.values() if a.dtype.itemsize < 4}
    sizes = {name: size for name, size in bound.sizes.items() if name != TIME_NAME}
    return 1 if form == STEP else default_chunk(sizes, float32=len(short) != 1)


def _run_triton(done: Compilation, form: str, bound: Bound, chunk: int) -> Results:
    if bound.kind != TORCH:
        hint = "move them with torch.from_numpy(x).cuda(), or use backend='numpy'"
        raise BackendError("Triton kernels take CUDA tensors, and the arguments are numpy arrays", hint=hint)
    from smir.backends.triton_gpu.runtime import run_triton

    return run_triton(_plan(done, form, "triton"), bound.arrays, bound.states, chunk=chunk)


def _run_triton_plan(plan: KernelPlan, arrays: Arrays, states: Arrays, chunk: int) -> tuple[Arrays, Arrays]:
    from smir.backends.triton_gpu.runtime import run_triton_results

    return run_triton_results(plan, arrays, states, chunk=chunk)


def _triton_sources(done: Compilation, form: str, chunk: int) -> dict[str, str]:
    from smir.backends.triton_gpu.emit import emit

    return emit(_plan(done, form, "triton"))


def _plan(done: Compilation, form: str, backend: str) -> Any:
    if form == DIRECT:
        message = f"{done.spec.name} has no kernels: it only runs as written, in numpy"
        raise FormError(message, hint=f"`explain` says which law rules {backend} programs out")
    return done.plans[form]


BACKENDS = {
    "numpy": Backend("numpy", "numpy", _run_numpy, _run_numpy_plan, _numpy_sources, _numpy_chunk),
    "triton": Backend("triton", "gpu", _run_triton, _run_triton_plan, _triton_sources, _triton_chunk),
}
