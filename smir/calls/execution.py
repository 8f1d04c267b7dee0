"""The backends: what each needs to run a bound call and to print a program. One entry of a table per backend."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from smir.calls.array_kinds import TORCH, kind_of, to_numpy, write
from smir.calls.binding import Bound
from smir.compilation import DIRECT, Compilation, require_form
from smir.errors import BackendError, FormError
from smir.ir.convolution import CONVOLUTION
from smir.ir.kernel import KernelPlan
from smir.ir.mixer import Mixer
from smir.ir.segment import FILLED, POSITION
from smir.ir.sizes import TIME_NAME
from smir.ir.tile import PAST
from smir.ir.tile_program import OUTPUT, STEP

if TYPE_CHECKING:
    from smir.passes.analysis.select_form import Machine
    from smir.tuning.settings import Setting

Arrays = Mapping[str, Any]
# Runs a plan on arrays and states by name: its tensors (results, and the values it keeps) and its final states.
Runner = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]
# Launch options by kernel name.
Options = dict[str, dict[str, int]]

# Runs the step form on arrays and states by name, and arrays that final states are written into where there are any:
# y `[B, T, H, *dims]` and all final states.
StepRunner = Callable[[Arrays, Arrays, Arrays], tuple[Any, Arrays]]


@dataclass(frozen=True)
class Backend:
    """`prepare(plan, arrays, chunk, options)` makes any plan, forward or adjoint, ready to run, with launch options by
    kernel name in place of those by rule; `prepare_step(plan, arrays)` a step form that may overwrite its states;
    `sources` are files by name.

    The runner takes arrays of the shapes, types and devices that it was prepared for, in canonical layout. `chunk_for`
    gives the tokens a chunk of a call in this form that doesn't say.
    """

    name: str
    machine_name: str
    prepare: Callable[..., Runner]
    prepare_step: Callable[[KernelPlan, Arrays], StepRunner]
    sources: Callable[[Compilation, str, int], dict[str, str]]
    chunk_for: Callable[[str, Bound], int]

    @property
    def machine(self) -> "Machine":
        """Its rates; loaded when a form is chosen, because the cost model needs sympy."""
        from smir.passes.analysis.select_form import MACHINES

        return MACHINES[self.machine_name]

    def with_setting(self, setting: "Setting") -> "Backend":
        """The same, whose kernels run with the options that were measured for them, at the chunk size of then."""

        def prepare(plan: KernelPlan, arrays: Arrays, chunk: int) -> Runner:
            return self.prepare(plan, arrays, chunk, setting.options_of(plan) if chunk == setting.chunk else None)

        return replace(self, prepare=prepare)


def find_backend(name: str) -> Backend:
    """Raises BackendError for an unknown name."""
    if name not in tuple(BACKENDS):
        raise BackendError(f"there is no backend {name!r}", hint=f"one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def backend_for(bound: Bound) -> str:
    """CUDA tensors run on Triton kernels, everything else on numpy."""
    return "triton" if bound.device.startswith("cuda") else "numpy"


def require_plan(done: Compilation, form: str) -> KernelPlan:
    """The kernels of a form. Raises FormError when it isn't legal, or has no kernels of its own."""
    require_form(done, form)
    if form == DIRECT:
        raise FormError(f"{done.spec.name} has no kernels: it only runs as written, in numpy",
                        hint="`explain` says which law rules programs out")  # fmt: skip
    if form == CONVOLUTION:
        raise FormError(f"the convolution form of {done.spec.name} has no program of its own: it is made of Fourier "
                        "transforms and compiled parts", hint=f"forms with one: {', '.join(done.plans)}")  # fmt: skip
    return done.plans[form]


def forward_runner(done: Compilation, backend: Backend, form: str, bound: Bound, chunk: int) -> Runner:
    """Runs this form of a mixer on calls like this one. Raises FormError and BackendError for what can't run."""
    if form == DIRECT and backend.name == "numpy":
        return partial(_run_as_written, done.recurrence or done.spec)
    return backend.prepare(require_plan(done, form), bound.arrays, chunk)


def step_runner(done: Compilation, backend: Backend, bound: Bound) -> StepRunner:
    """Runs steps like this one, without gradients."""
    if STEP not in done.plans:
        return partial(_written_out, forward_runner(done, backend, DIRECT, bound, 1))
    return backend.prepare_step(done.plans[STEP], bound.arrays)


def _written_out(run: Runner, arrays: Arrays, states: Arrays, targets: Arrays) -> tuple[Any, Arrays]:
    """Final states apart, then where they are wanted."""
    results, final = run(arrays, states)
    for name, target in targets.items():
        write(target, final[name])
    return results[OUTPUT], {**final, **targets}


def _run_as_written(spec: Mixer, arrays: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
    from smir.backends.numpy_reference.mixer_interpreter import run_mixer

    y, final = run_mixer(spec, *({n: to_numpy(a) for n, a in given.items()} for given in (arrays, states)))
    return {OUTPUT: y}, final


def _prepare_numpy(plan: KernelPlan, arrays: Arrays, chunk: int, options: Options | None = None) -> Runner:
    """CPU tensors of 32 and 64 bits share their memory with the arrays that this runs on."""
    from smir.backends.numpy_reference import plan_interpreter

    read = {leaf.name for leaf in plan.leaves} | {b.name for b in plan.given}

    pasts = {leaf.name for leaf in plan.leaves if leaf.kind == PAST}

    def run(arrays: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
        own = _native({n: arrays[n] for n in read})
        if pasts:
            seen = int(states[POSITION]) if POSITION in states else None
            if FILLED in states:
                own |= {name: own[name][:, : int(states[FILLED])] for name in pasts}
            return plan_interpreter.run_results(plan, own, {}, chunk=chunk, seen=seen)
        return plan_interpreter.run_results(plan, own, _native(states), chunk=chunk)

    return run


def _prepare_numpy_step(plan: KernelPlan, arrays: Arrays) -> StepRunner:
    return partial(_written_out, _prepare_numpy(plan, arrays, 1))


def _native(arrays: Arrays) -> dict[str, Any]:
    """As numpy arrays, 16-bit floats as 32-bit ones: numpy has no fast arithmetic for them."""
    found = {name: to_numpy(a) for name, a in arrays.items()}
    return {name: a.astype("float32") if a.dtype.itemsize < 4 else a for name, a in found.items()}


def _numpy_sources(done: Compilation, form: str, chunk: int) -> dict[str, str]:
    from smir.backends.numpy_reference.emit import emit_numpy

    return {f"{done.spec.name}_{form}.py": emit_numpy(require_plan(done, form), chunk=chunk)}


def _numpy_chunk(form: str, bound: Bound) -> int:
    return find_backend("numpy").machine.chunk_of(form, bound.tokens)


def _triton_chunk(form: str, bound: Bound) -> int:
    from smir.backends.triton_gpu.fitting import shared_limit
    from smir.backends.triton_gpu.options import default_chunk

    limit = shared_limit(bound.device)
    short = {a.dtype for a in bound.arrays.values() if a.dtype.itemsize < 4}
    sizes = {name: size for name, size in bound.sizes.items() if name != TIME_NAME}
    return 1 if form == STEP else default_chunk(sizes, len(short) != 1, form, limit)


def _require_tensors(arrays: Arrays) -> None:
    if any(kind_of(a) != TORCH for a in arrays.values()):
        hint = "move them with torch.from_numpy(x).cuda(), or use backend='numpy'"
        raise BackendError("Triton kernels take CUDA tensors, and the arguments are numpy arrays", hint=hint)


def _prepare_triton(plan: KernelPlan, arrays: Arrays, chunk: int, options: Options | None = None) -> Runner:
    _require_tensors(arrays)
    from smir.backends.triton_gpu.runtime import prepare

    cut = cut_in_time(plan, arrays, chunk)
    if cut is not plan and options:
        from smir.passes.kernels.time_segments import options_of_ends

        options = {**options_of_ends(cut, options), **options}
    return prepare(cut, arrays, chunk, options)


def cut_in_time(plan: KernelPlan, arrays: Arrays, chunk: int) -> KernelPlan:
    """What a GPU runs for a plan: walks that make everything on their way, where there are any, and segments of long
    sequences at once where few walks would leave it idle; what can't be cut into segments takes no such walks then."""
    from smir.backends.triton_gpu.options import LONGEST_WALKED
    from smir.backends.triton_gpu.runtime import is_starving, product_type, sizes_of

    plan = joined_where_it_fits(plan, sizes_of(plan, arrays), chunk, product_type(plan, arrays).itemsize == 4)
    walked = plan.walked if chunk <= LONGEST_WALKED else plan
    # packed sequences, too, are walked as each of them alone is
    if not is_starving(walked, arrays, chunk):
        return walked
    from smir.passes.kernels.time_segments import with_segments

    cut = with_segments(walked)
    return cut if walked is plan or all(k.in_segments for k in cut.kernels) else with_segments(plan)


def joined_where_it_fits(plan: KernelPlan, sizes: Mapping[str, int], chunk: int, float32: bool) -> KernelPlan:
    """The plan whose results are each made from the start, where a program of a GPU can hold what that takes.

    `float32`: so are the operands of products, unless all dimensions are tiny.
    """
    from smir.backends.triton_gpu.facts import is_tiny
    from smir.backends.triton_gpu.joining import fit_joined
    from smir.backends.triton_gpu.options import tile_elements
    from smir.passes.kernels.joined_outputs import with_joined_outputs

    joined = with_joined_outputs(plan)
    fits = joined is not plan and fit_joined(joined, tile_elements(sizes, chunk), float32 or is_tiny(sizes))
    return joined if fits else plan


def _prepare_triton_step(plan: KernelPlan, arrays: Arrays) -> StepRunner:
    _require_tensors(arrays)
    from smir.backends.triton_gpu.in_place import prepare_step

    return prepare_step(plan, arrays)


def _triton_sources(done: Compilation, form: str, chunk: int) -> dict[str, str]:
    from smir.backends.triton_gpu.emit import emit

    return emit(require_plan(done, form).walked)


BACKENDS = {
    "numpy": Backend("numpy", "numpy", _prepare_numpy, _prepare_numpy_step, _numpy_sources, _numpy_chunk),
    "triton": Backend("triton", "gpu", _prepare_triton, _prepare_triton_step, _triton_sources, _triton_chunk),
}
