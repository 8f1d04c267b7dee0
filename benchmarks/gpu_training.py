"""Gradients on a GPU: errors against float64 within the budget of docs/verification.md; training times beside peers.

    python -m benchmarks.gpu_training [--specs gla,kda] [--tasks warm,times] [--seconds 500]

Gradients go through torch's autograd, with cotangents for the output and for the final states; the truth is the float64
step form (of a mixer without step equations its only form), which the golden vectors anchor. `warm` and `peer_warm`
compile what `times` and `peer` measure, for many specs at once; the times of ours and of each peer are measured one
after the other, in processes of their own. Peers need `pip install fla-core`. Several calls fill one file of results.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import smir
from benchmarks.gpu_forward import BFLOAT_FACTOR, DTYPES, FLOOR32, SPEED_SHAPES, rms
from benchmarks.gpu_runs import (
    CHECK,
    TIMES,
    Task,
    draw,
    fast_form,
    float32_factor,
    large_arguments,
    run,
    starts,
    task_of,
)
from benchmarks.peers import PEERS, has_peers
from smir.sampling import dimension_names

B, T, H = 2, 200, 2
SIZES = {"N": 16, "M": 32}
SPEED_SIZE = 128
MODULE = "benchmarks.gpu_training"
PEER, WARM, PEER_WARM = "peer", "warm", "peer_warm"
WARM_SHAPE = (1, 2048, 16)


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per form, dtype, case and gradient of a library spec."""
    mixer = smir.compile(name)
    sizes = {name: SIZES.get(name, 64) for name in dimension_names(mixer.spec)}
    for case in ("usual", "extreme"):
        arrays = draw(mixer.spec, B, T, H, sizes, seed=1, extreme=case == "extreme")
        states = starts(mixer, B, H, sizes, seed=2)
        for dtype in DTYPES:
            yield from _case(mixer, name, case, dtype, arrays, states)


def _case(mixer: Any, name: str, case: str, dtype: str, arrays: Mapping[str, Any], states: Mapping[str, Any]
          ) -> Iterator[dict[str, Any]]:  # fmt: skip
    first = mixer.forms[0]
    truth = gradients(name, first, "numpy", "float64", arrays, states)
    rounded = {k: _round(v, dtype) for k, v in arrays.items()}
    ideal = gradients(name, first, "numpy", "float64", rounded, states, dtype)
    step = gradients(name, first, "numpy", "float32", arrays, states)
    for form in mixer.forms:
        found = gradients(name, form, "triton", dtype, arrays, states)
        again = gradients(name, form, "triton", dtype, arrays, states)
        for key, value in truth.items():
            # a factor of exactly zero has no logarithm: chunks give it no gradient (docs/verification.md)
            fine = np.isfinite(value) & _has_log(mixer, key, arrays.get(key), form)
            scale = rms(value[fine]) or 1.0
            error = rms((found[key] - value)[fine]) / scale
            rounding = rms((_round(ideal[key], dtype) - value)[fine]) / scale
            single = max(float32_factor(mixer) * rms((step[key] - value)[fine]) / scale, FLOOR32)
            budget = BFLOAT_FACTOR * rounding if dtype == "bfloat16" else single
            yield {"spec": name, "form": form, "dtype": dtype, "case": case, "result": f"d_{key}", "error": error,
                   "budget": budget, "repeats": bool(np.array_equal(found[key], again[key], equal_nan=True)),
                   "passed": bool(error <= budget)}  # fmt: skip


def _has_log(mixer: Any, key: str, values: Any, form: str) -> Any:
    """Where a gate that the spec promises to be a factor isn't exactly zero."""
    factor = next((d.range.lo == 0.0 for d in mixer.spec.declarations if d.name == key), False)
    return values != 0.0 if factor and form != "step" else True


def _round(x: Any, dtype: str) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(x)).to(getattr(torch, dtype)).double().numpy()


def gradients(name: str, form: str, backend: str, dtype: str, arrays: Mapping[str, Any], states: Mapping[str, Any],
              cotangents: str = "float64") -> dict[str, Any]:  # fmt: skip
    """Gradients of all inputs, parameters and initial states for seeded cotangents, as float64 arrays."""
    import torch

    device, kind = ("cuda" if backend == "triton" else "cpu"), getattr(torch, dtype)
    given = {k: torch.from_numpy(np.ascontiguousarray(v)).to(device, kind).requires_grad_() for k, v in arrays.items()}
    held = {k: torch.from_numpy(v).to(device, kind if dtype == "float64" else torch.float32).requires_grad_()
            for k, v in states.items()}  # fmt: skip
    y, final = smir.compile(name, form=form, backend=backend)(**given, state=held or None, return_state=True)
    rng = np.random.default_rng(5)
    loss = torch.zeros((), device=device, dtype=torch.float64)
    for value in (y, *final.values()):
        seed = torch.from_numpy(_round(rng.standard_normal(tuple(value.shape)), cotangents))
        loss = loss + (value * seed.to(device, value.dtype)).double().sum()
    loss.backward()
    both = {**given, **held}
    return {k: (torch.zeros_like(v) if v.grad is None else v.grad).double().cpu().numpy() for k, v in both.items()}


def times(name: str) -> Iterator[dict[str, Any]]:
    """Median milliseconds of forward and of forward + backward in bf16, and the memory of a step."""
    mixer = smir.compile(name, form=fast_form(name), backend="triton")
    for shape in SPEED_SHAPES:
        yield {
            "task": TIMES,
            "spec": name,
            "form": fast_form(name),
            **_measured(shape, lambda x: mixer(**x), _inputs(mixer, *shape)),
        }


def peer(name: str) -> Iterator[dict[str, Any]]:
    """The same of the kernel of other people that computes this mixer, for the same inputs; no row where none does."""
    if name not in PEERS or not has_peers():
        return
    mixer, other = smir.compile(name, form=fast_form(name), backend="triton"), PEERS[name]
    for shape in SPEED_SHAPES:
        row: dict[str, Any] = {"task": PEER, "spec": name, "peer": other.name}
        inputs = _inputs(mixer, *shape)
        try:
            row |= _measured(shape, other.call(), _leaves(other.arguments(inputs)))
            if other.same:
                row["difference"] = _difference(other.call()(other.arguments(inputs)), mixer(**inputs))
        except (ImportError, RuntimeError, AssertionError, TypeError, ValueError) as error:
            row |= {"shape": _shape(shape), "peer_error": f"{type(error).__name__}: {str(error)[:200]}"}
        yield row


def warm(name: str) -> Iterator[dict[str, Any]]:
    """Compiles what `times` measures."""
    mixer = smir.compile(name, form=fast_form(name), backend="triton")
    seconds = _first_seconds(lambda x: mixer(**x), _inputs(mixer, *WARM_SHAPE))
    yield {"task": WARM, "spec": name, "compile_s": seconds}


def peer_warm(name: str) -> Iterator[dict[str, Any]]:
    """Compiles what `peer` measures: every variant that its own search tries."""
    if name not in PEERS or not has_peers():
        return
    mixer, other = smir.compile(name, form=fast_form(name), backend="triton"), PEERS[name]
    seconds = _first_seconds(other.call(), _leaves(other.arguments(_inputs(mixer, *WARM_SHAPE))))
    yield {"task": PEER_WARM, "spec": name, "peer": other.name, "compile_s": seconds}


def _inputs(mixer: Any, batch: int, tokens: int, heads: int) -> dict[str, Any]:
    """Random bf16 arguments inside the promised ranges, the same ones in every process."""
    given = large_arguments(mixer.spec, (batch, tokens, heads), lambda name: SPEED_SIZE)
    return {name: x.bfloat16().requires_grad_() for name, x in given.items()}


def _leaves(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, (*shape, SPEED_SIZE)))


def _first_seconds(call: Callable[[dict[str, Any]], Any], inputs: dict[str, Any]) -> float:
    """Of one forward and one backward pass: compiling, and where a library searches for its options, searching."""
    import torch

    start = time.perf_counter()
    y = call(inputs)
    y.backward(torch.randn_like(y))
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _measured(shape: tuple[int, ...], call: Callable[[dict[str, Any]], Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """Medians, the memory that a step takes beside its inputs, and what the first step took to get ready."""
    import torch
    import triton

    def bench(run: Callable[[], Any]) -> float:
        return float(triton.testing.do_bench(run, warmup=50, rep=200, return_mode="median"))

    first = _first_seconds(call, inputs)
    y = call(inputs)
    seed, finite = torch.randn_like(y), bool(y.isfinite().all())
    del y

    def forward() -> None:
        with torch.no_grad():
            call(inputs)

    def both() -> None:
        for x in inputs.values():
            x.grad = None
        call(inputs).backward(seed)

    row = {"shape": _shape(shape), "forward_ms": bench(forward), "both_ms": bench(both), "first_s": first}
    for x in inputs.values():
        x.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both()
    row["extra_MiB"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return row | {"finite": finite}


def _difference(theirs: Any, ours: Any) -> float:
    """RMS of the difference of two outputs, relative to the RMS of the second."""
    return float((theirs.float() - ours.float()).norm() / ours.float().norm())


def _summary(rows: list[dict[str, Any]]) -> None:
    print(f"{'spec':<27}{'rows':>5}{'fail':>5}{'f32':>7}{'bf16':>7}{'moved':>6}  shape: fwd / fwd+bwd ms, MiB (peer)")
    for spec in sorted({r["spec"] for r in rows}):
        own = [r for r in rows if r["spec"] == spec]
        checks = [r for r in own if "error" in r]
        worst = {
            d: max((r["error"] / r["budget"] for r in checks if r["dtype"] == d), default=float("nan")) for d in DTYPES
        }
        ours, peers = ({r["shape"]: r for r in own if task_of(r) == task and "both_ms" in r} for task in (TIMES, PEER))
        speed = "; ".join(
            " beside ".join(f"{r['forward_ms']:.3f}/{r['both_ms']:.2f} {r['extra_MiB']:.0f}M"
                            for r in (ours.get(shape), peers.get(shape)) if r)
            for shape in dict.fromkeys([*ours, *peers])
        )  # fmt: skip
        print(f"{spec:<27}{len(checks):>5}{sum(not r['passed'] for r in checks):>5}{worst['float32']:>7.2f}"
              f"{worst['bfloat16']:>7.2f}{sum(not r['repeats'] for r in checks):>6}  {speed}")  # fmt: skip
    for r in rows:
        if "crashed" in r or "peer_error" in r:
            print(r["spec"], str(r.get("crashed") or r.get("peer_error"))[-500:])
        if "compile_s" in r or "difference" in r:
            print({k: v for k, v in r.items() if k in ("spec", "task", "compile_s", "first_s", "difference", "finite")})
    for r in [r for r in rows if "error" in r and not r["passed"]][:40]:
        print(
            "FAIL",
            *(r[k] for k in ("spec", "form", "dtype", "case", "result")),
            f"{r['error']:.2e} > {r['budget']:.2e}",
        )


TASKS = {
    CHECK: Task(check),
    WARM: Task(warm, recorded=False),
    TIMES: Task(times, alone=True),
    # what it finds beside other processes isn't kept: it searches again, alone, before its time is measured
    PEER_WARM: Task(peer_warm, variables={"FLA_CACHE_RESULTS": "0"}),
    PEER: Task(peer, alone=True, variables={"FLA_CACHE_RESULTS": "0"}),
}

if __name__ == "__main__":
    run(MODULE, __doc__, TASKS, _summary, f"B={B} T={T} H={H}, dimensions {SIZES}")
