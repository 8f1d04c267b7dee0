"""The backends: what each needs to run a bound call and to print a program. One entry of a table per backend."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smir.array_kinds import TORCH
from smir.binding import Bound
from smir.compiler import DIRECT, Compilation
from smir.errors import BackendError, FormError

if TYPE_CHECKING:
    from smir.passes.select_form import Machine

Results = tuple[Any, Mapping[str, Any]]


@dataclass(frozen=True)
class Backend:
    """`run` gives y and the final states in canonical layout; `sources` the program's files by name."""

    name: str
    machine_name: str
    run: Callable[[Compilation, str, Bound, int], Results]
    sources: Callable[[Compilation, str, int], dict[str, str]]

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
    from smir.backends.numpy_reference.plan_interpreter import run_plan

    arrays, states = bound.numpy()
    if form == DIRECT:
        return run_mixer(done.spec, arrays, states)
    return run_plan(done.plans[form], _widened(arrays), _widened(states), chunk=chunk)


def _widened(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """16-bit floats as 32-bit ones: numpy has no fast arithmetic for them."""
    return {name: a.astype("float32") if a.dtype.itemsize < 4 else a for name, a in arrays.items()}


def _numpy_sources(done: Compilation, form: str, chunk: int) -> dict[str, str]:
    from smir.backends.numpy_reference.emit import emit_numpy

    return {f"{done.spec.name}_{form}.py": emit_numpy(_plan(done, form, "numpy"), chunk=chunk)}


def _run_triton(done: Compilation, form: str, bound: Bound, chunk: int) -> Results:
    if bound.kind != TORCH:
        hint = "move them with torch.from_numpy(x).cuda(), or use backend='numpy'"
        raise BackendError("Triton kernels take CUDA tensors, and the arguments are numpy arrays", hint=hint)
    from smir.backends.triton_gpu.runtime import run_triton

    return run_triton(_plan(done, form, "triton"), bound.arrays, bound.states, chunk=chunk)


def _triton_sources(done: Compilation, form: str, chunk: int) -> dict[str, str]:
    from smir.backends.triton_gpu.emit import emit

    return emit(_plan(done, form, "triton"))


def _plan(done: Compilation, form: str, backend: str) -> Any:
    if form == DIRECT:
        message = f"{done.spec.name} has no kernels: it only runs as written, in numpy"
        raise FormError(message, hint=f"`explain` says which law rules {backend} programs out")
    return done.plans[form]


BACKENDS = {
    "numpy": Backend("numpy", "numpy", _run_numpy, _numpy_sources),
    "triton": Backend("triton", "gpu", _run_triton, _triton_sources),
}
