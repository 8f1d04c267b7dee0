"""What runs in the processes of `conftest`: kernels against numpy, forward and backward, and compilations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import smir
from smir.backends.numpy_reference.plan_interpreter import run_plan, run_results
from smir.calls.execution import joined_where_it_fits
from smir.derivatives import adjoint_plan, training_plan
from smir.ir.kernel import KernelPlan
from smir.passes.kernels.joined_outputs import with_joined_outputs
from smir.passes.kernels.time_segments import with_segments
from smir.sampling import common_sizes, sample, sample_states


@dataclass(frozen=True)
class Case:
    """One run: `sizes` by dimension name, `chunk` tokens a chunk, given or declared initial states; `segments`: walks
    are cut into segments of time; `joined`: results are made from the start where there are several."""

    sizes: tuple[tuple[str, int], ...] = ()
    T: int = 37
    chunk: int = 16
    states: bool = True
    extreme: bool = False
    B: int = 1
    H: int = 2
    segments: bool = False
    joined: bool = False

    def plan(self, plan: KernelPlan) -> KernelPlan:
        """The plan that the kernels are printed from; raises AssertionError where there is nothing to cut."""
        walked = with_joined_outputs(plan.walked) if self.joined else plan.walked
        if not self.segments:
            return walked
        cut = with_segments(walked)
        assert cut is not walked
        return cut


def compare(spec: str, form: str, case: Case) -> dict[str, float]:
    """Errors of the interpreted kernels in float32, as multiples of what numpy loses by computing in float32.

    One number for each result; 1 or so means as accurate as numpy, infinite a wrong shape or NaN.
    """
    mixer = smir.compile(spec)
    plan, sizes = case.plan(mixer.compilation.plans[form]), dict(case.sizes)
    arrays = sample(mixer.spec, case.B, case.T, case.H, sizes, seed=3, extreme=case.extreme)
    states = sample_states(mixer.spec, case.B, case.H, sizes, seed=4) if case.states else {}
    return compare_plan(plan, arrays, mixer.compilation.scaled_states.carried(states, sizes), case.chunk)


def compare_plan(
    plan: KernelPlan, arrays: Mapping[str, Any], states: Mapping[str, Any], chunk: int
) -> dict[str, float]:
    """The same for a plan and its arrays, float64 numpy being the truth."""
    import torch

    from smir.backends.triton_gpu.runtime import run_triton

    narrow = [{n: np.asarray(a, np.float32) for n, a in group.items()} for group in (arrays, states)]
    truth = _named(*run_plan(plan, arrays, states, chunk=chunk))
    single = _named(*run_plan(plan, *narrow, chunk=chunk))
    given, held = ({n: torch.from_numpy(a.copy()) for n, a in group.items()} for group in narrow)
    y, final = run_triton(plan, given, held, chunk)
    found = _named(y.numpy(), {n: s.numpy() for n, s in final.items()})
    return {name: _multiple(found.get(name), truth[name], single[name]) for name in truth}


Runner = Callable[[KernelPlan, Mapping[str, Any], Mapping[str, Any]], tuple[Mapping[str, Any], Mapping[str, Any]]]


def compare_gradients(spec: str, form: str, case: Case) -> dict[str, float]:
    """The same for all gradients of a training step: the forward kernels save, the backward kernels are given.

    The truth is the adjoint program in float64 numpy, which starts from the inputs alone.
    """
    mixer = smir.compile(spec)
    done, sizes = mixer.compilation, dict(case.sizes)
    arrays = sample(mixer.spec, case.B, case.T, case.H, sizes, seed=3, extreme=case.extreme)
    states = sample_states(mixer.spec, case.B, case.H, sizes, seed=4)
    rng = np.random.default_rng(5)
    y = run_plan(done.plans[form], arrays, states, chunk=case.chunk)[0]
    d_y = rng.standard_normal(y.shape)
    d_states = {f"d_{name}": rng.standard_normal(s.shape) for name, s in states.items()}
    wanted, states = frozenset({*arrays, *states}), mixer.compilation.scaled_states.carried(states, sizes)
    plans, cotangents = training_plan(done, form, wanted), ({"d_y": d_y}, d_states)
    truth = run_results(
        adjoint_plan(done, form, wanted), {**arrays, "d_y": d_y}, {**states, **d_states}, chunk=case.chunk
    )

    def step(run: Runner, convert: Callable[[Any], Any]) -> dict[str, Any]:
        given, held, d_given, d_held = ({n: convert(a) for n, a in g.items()} for g in (arrays, states, *cotangents))
        saved = run(plans.forward, given, held)[0]
        kept = {inner: saved[outer] for outer, inner in plans.kept.items()}
        return _joined(*run(plans.backward, {**given, **d_given, **kept}, {**held, **d_held}))

    single = step(lambda *a: run_results(*a, chunk=case.chunk), lambda a: np.asarray(a, np.float32))
    found = step(lambda p, *a: _run_triton(case.plan(p), *a, chunk=case.chunk), lambda a: np.asarray(a, np.float32))
    return {name: _multiple(found.get(name), value, single[name]) for name, value in _joined(*truth).items()}


def compare_head_groups(spec: str) -> dict[str, float]:
    """The same for y and all gradients of a call in which all inputs but the first have half as many heads."""
    import torch

    mixer = smir.compile(spec)
    _, *others = (d.name for d in mixer.spec.inputs)
    arrays = sample(mixer.spec, 2, 21, 4, None, seed=3)
    arrays |= {name: arrays[name][:, :, ::2] for name in others}
    d_y = np.random.default_rng(5).standard_normal(mixer(**arrays).shape)

    def run(backend: str, dtype: Any) -> dict[str, Any]:
        called = smir.compile(spec, backend=backend, chunk=16)
        tensors = {n: torch.tensor(np.asarray(a, dtype), requires_grad=True) for n, a in arrays.items()}
        y = called(**tensors)
        y.backward(torch.tensor(np.asarray(d_y, dtype)))
        return {"y": y.detach().numpy(), **{f"d_{n}": t.grad.numpy() for n, t in tensors.items()}}

    found, truth, single = run("triton", np.float32), run("numpy", np.float64), run("numpy", np.float32)
    return {name: _multiple(found.get(name), value, single[name]) for name, value in truth.items()}


def compare_second(spec: str, form: str, case: Case) -> dict[str, float]:
    """The same for what a penalty on all gradients gives: first gradients, and gradients of their squares."""
    import torch

    mixer = smir.compile(spec)
    sizes = dict(case.sizes)
    arrays = sample(mixer.spec, case.B, case.T, case.H, sizes, seed=3, extreme=case.extreme)
    states = sample_states(mixer.spec, case.B, case.H, sizes, seed=4)

    def run(backend: str, dtype: Any) -> dict[str, Any]:
        called = smir.compile(spec, form=form, backend=backend, chunk=case.chunk)
        given, held = (
            {n: torch.tensor(np.asarray(a, dtype), requires_grad=True) for n, a in group.items()}
            for group in (arrays, states)
        )
        tensors = [*given.values(), *held.values()]
        y, final = called(**given, state=held, return_state=True)
        once = torch.autograd.grad([r.square().sum() for r in (y, *final.values())], tensors, create_graph=True)
        twice = torch.autograd.grad([g.square().sum() for g in once], tensors)
        names = (*given, *(f"initial {n}" for n in held))
        pairs = zip(("once", "twice"), (once, twice), strict=True)
        return {f"{n} {which}": g.detach().numpy() for which, group in pairs for n, g in zip(names, group, strict=True)}

    found, truth, single = run("triton", np.float32), run("numpy", np.float64), run("numpy", np.float32)
    return {name: _multiple(found.get(name), value, single[name]) for name, value in truth.items()}


def _run_triton(
    plan: KernelPlan, arrays: Mapping[str, Any], states: Mapping[str, Any], *, chunk: int
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Kernels on numpy arrays."""
    import torch

    from smir.backends.triton_gpu.runtime import run_triton_results

    given, held = ({n: torch.from_numpy(a.copy()) for n, a in group.items()} for group in (arrays, states))
    results, final = run_triton_results(plan, given, held, chunk)
    return {n: a.numpy() for n, a in results.items()}, {n: a.numpy() for n, a in final.items()}


def _joined(results: Mapping[str, Any], final: Mapping[str, Any]) -> dict[str, Any]:
    """Gradients of inputs and parameters by name, and those of initial states."""
    return {**results, **{f"initial {name}": a for name, a in final.items()}}


def _named(y: Any, final: Mapping[str, Any]) -> dict[str, Any]:
    return {"y": y, **final}


def _multiple(found: Any, truth: Any, single: Any) -> float:
    if found is None or found.shape != truth.shape or not np.array_equal(np.isnan(found), np.isnan(truth)):
        return float("inf")
    real = np.isfinite(truth)
    scale = np.sqrt(np.mean(np.square(truth[real]))) if real.any() else 1.0
    error = np.max(np.abs(found[real] - truth[real]), initial=0.0)
    return float(error / max(np.max(np.abs(single[real] - truth[real]), initial=0.0), 2e-7 * scale, 1e-30))


def resources(spec: str, form: str, target: str, size: int, dtype: str, chunk: int | None) -> list[tuple[Any, ...]]:
    """(kernel, shared bytes, registers, stack bytes, warps, within limits) of every kernel of a form."""
    from smir.backends.triton_gpu.options import LONGEST_WALKED

    mixer = smir.compile(spec)
    plan = mixer.compilation.plans[form]
    return _compiled(mixer, plan.walked if (chunk or 0) <= LONGEST_WALKED else plan, target, size, dtype, chunk)


def backward_resources(
    spec: str, form: str, target: str, size: int, dtype: str, chunk: int | None, most: int = 0
) -> list[tuple[Any, ...]]:
    """The same for the kernels of all gradients of a training step, of those that hold more than `most` elements."""
    mixer = smir.compile(spec)
    wanted = frozenset({d.name for d in mixer.spec.declarations} | {s.name for s in mixer.spec.states})
    plan = training_plan(mixer.compilation, form, wanted).backward.walked
    plan = joined_where_it_fits(plan, common_sizes(mixer.spec, size), chunk or 64, dtype == "float32")
    return _compiled(mixer, plan, target, size, dtype, chunk, most)


def _compiled(
    mixer: Any, plan: KernelPlan, target: str, size: int, dtype: str, chunk: int | None, most: int = 0
) -> list[Any]:
    from smir.backends.triton_gpu.ahead_of_time import Workload, alive_elements, compile_plan

    workload = Workload(common_sizes(mixer.spec, size), dtype, chunk=chunk)
    chosen = [name for name, count in alive_elements(plan, workload).items() if count >= most]
    found = compile_plan(plan, target, workload, only=chosen) if chosen else []
    return [(r.kernel, r.shared, r.registers, r.stack, r.num_warps, r.within_limits) for r in found]


def fitted(spec: str, form: str, target: str, limit: int, backward: bool) -> dict[str, int]:
    """Shared bytes of a form's kernels, or of those of all its gradients, once they are made to fit, as a call does."""
    from smir.backends.triton_gpu.ahead_of_time import Workload, compile_plan, launch_options
    from smir.backends.triton_gpu.fitting import fit

    mixer = smir.compile(spec)
    plan = mixer.compilation.plans[form]
    if backward:
        plan = training_plan(mixer.compilation, form, frozenset(d.name for d in mixer.spec.declarations)).backward
    workload, found = Workload(common_sizes(mixer.spec, 128), "bfloat16"), dict[str, int]()
    options = {name: dict(own) for name, own in launch_options(plan.walked, workload, target).items()}
    tried: dict[str, dict[str, int]] = {}

    def compiled() -> dict[str, int]:
        changed = [name for name in options if tried.get(name) != options[name]]
        given = replace(workload, options=options)
        found.update({r.kernel: r.shared for r in compile_plan(plan.walked, target, given, only=changed)})
        tried.update({name: dict(options[name]) for name in changed})
        return found

    fit(compiled, options, limit, 64)
    return found


def exchanges(spec: str, target: str, size: int) -> dict[str, int]:
    """How often threads hand each other values in the scan form's kernels of a training step, by pass and kernel."""
    from smir.backends.triton_gpu.ahead_of_time import Workload, machine_code, recorded_launches

    mixer = smir.compile(spec)
    plans = training_plan(mixer.compilation, "scan", frozenset(d.name for d in mixer.spec.declarations))
    sides = {"forward": plans.forward, "backward": plans.backward}
    sides |= {f"{side} by walks": plan.walked for side, plan in sides.items()}
    workload = Workload(common_sizes(mixer.spec, size), "bfloat16")
    launches = {
        (side, launch[0]): launch for side, p in sides.items() for launch in recorded_launches(p, workload, target)
    }
    return {f"{side} {name}": machine_code(*launch, target).count("shfl.") for (side, name), launch in launches.items()}


def compare_layouts(spec: str) -> dict[str, float]:
    """Errors of y and all gradients of prepared calls, by how their tensors lie in memory: values differ every time."""
    import torch

    mixer = smir.compile(spec, form="chunked", backend="triton", chunk=16)
    truth = smir.compile(spec, form="chunked", backend="numpy", chunk=16)
    layouts: dict[str, Callable[[Any], Any]] = {
        "contiguous": lambda t: t.contiguous(),
        "turned": lambda t: t.transpose(0, -1).contiguous().transpose(0, -1),
        "every second": lambda t: torch.stack([t, t], -1)[..., 0],
        "off by one": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
        "contiguous again": lambda t: t.contiguous(),
    }
    errors = {}
    for seed, (name, laid) in enumerate(layouts.items()):
        given = {n: torch.from_numpy(a).float() for n, a in sample(mixer.spec, 1, 21, 2, seed=seed).items()}
        laid_out = [laid(t).detach().requires_grad_() for t in given.values()]
        found, expected = (_with_gradients(m, tensors) for m, tensors in
                           ((mixer, laid_out), (truth, [t.requires_grad_() for t in given.values()])))  # fmt: skip
        errors[name] = max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))
    assert len(mixer.calls.prepared.known) == 1, "a layout was prepared anew"
    return errors


def _with_gradients(mixer: Any, tensors: list[Any]) -> list[Any]:
    import torch

    y = mixer(*tensors)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), tensors)]


def trigonometric_error(size: float) -> float:
    """Of a kernel's cosines and sines, for arguments up to a size."""
    from tests.triton.trigonometry import largest_error

    return largest_error(size)


def exponential_errors() -> dict[str, float]:
    """Of a kernel's powers of e, in units in the last place."""
    from tests.triton.exponential import errors

    return errors()


def exponential_ends() -> list[float]:
    """A kernel's powers of e of infinities, large numbers and NaN."""
    from tests.triton.exponential import at_the_ends

    return at_the_ends()


def step_without_memory(spec: str) -> dict[str, bool]:
    """What a step in place does when an allocation fails: what it raises, and what is left of the state."""
    import torch

    mixer = smir.compile(spec, backend="triton")
    tokens = [{n: torch.from_numpy(a[:, t]).float() for n, a in sample(mixer.spec, 2, 2, 2).items()} for t in range(2)]
    with torch.no_grad():
        _, state = mixer.step(**tokens[0])
        before = {n: s.clone() for n, s in state.items()}
        expected, after = mixer.step(**tokens[1], state=before)
        empty, error = torch.empty, None
        try:
            torch.empty = _no_memory
            mixer.step(**tokens[1], state=state, inplace=True)
        except torch.OutOfMemoryError as found:
            error = found
        finally:
            torch.empty = empty
        kept = all(torch.equal(s, before[n]) for n, s in state.items())
        y, _ = mixer.step(**tokens[1], state=state, inplace=True)
    again = torch.equal(y, expected) and all(torch.equal(s, after[n]) for n, s in state.items())
    notes = " ".join(getattr(error, "__notes__", ()))
    return {"raised": error is not None, "explained": "as they were" in notes, "kept": kept, "again": again}


def _no_memory(*args: Any, **others: Any) -> Any:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 GiB.")


def golden_excess(name: str, case: str, form: str, dtype: str = "float32") -> dict[str, tuple[float, float]]:
    """The results of a golden vector that are beyond their budget: error and budget."""
    from benchmarks.gpu_golden import compare

    rows = list(compare(name, case, form, dtype, "cpu", runs=1))
    assert rows
    return {r["result"]: (r["error"], r["budget"]) for r in rows if not r["passed"]}


def distance_error(reverse: bool, exclusive: bool, resets: bool) -> float:
    """Of sums between the rows of a column."""
    from tests.triton.distances import relative_error

    return relative_error(reverse, exclusive, resets)
