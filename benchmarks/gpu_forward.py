"""Forward kernels on a GPU: errors against the float64 oracle with the budget of docs/verification.md, and times.

Run with `python -m benchmarks.gpu_forward [--specs a,b] [--tasks warm,times]`. Every spec runs in a process of its own,
so that a kernel that crashes the GPU's context takes nothing else down. Several calls fill one file of results.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import smir
from benchmarks.gpu_runs import CHECK, TIMES, Task, draw, fast_form, float32_factor, large_arguments, run, starts
from smir.backends.numpy_reference.mixer_interpreter import run_mixer
from smir.sampling import dimension_names, sample

MODULE = "benchmarks.gpu_forward"
B, T, H = 2, 300, 3
# Dimensions that are not named here have 64 elements.
SIZES = {"K": 64, "V": 128, "N": 16, "M": 32}
SPEED_SHAPES = ((4, 4096, 16), (1, 32768, 16))
SPEED_SIZE = 128
DTYPES = ("float32", "bfloat16")
FLOOR32, BFLOAT_FACTOR = 2e-6, 2.0


def rms(x: Any) -> float:
    """Root mean square over the finite entries of the truth (0/0 of a normaliser is not compared)."""
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per form, dtype, case and result of a library spec."""
    mixer = smir.compile(name)
    sizes = {name: SIZES.get(name, 64) for name in dimension_names(mixer.spec)}
    for case in ("usual", "extreme"):
        arrays = draw(mixer.spec, B, T, H, sizes, seed=1, extreme=case == "extreme")
        states = starts(mixer, B, H, sizes, seed=2) if case == "usual" else {}
        for dtype in DTYPES:
            yield from _case(name, case, dtype, arrays, states)


def _case(name: str, case: str, dtype: str, arrays: Mapping[str, Any], states: Any) -> Iterator[dict[str, Any]]:
    import torch

    def rounded(x: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(x)).to(getattr(torch, dtype))

    mixer = smir.compile(name)
    truth = results(*run_mixer(mixer.spec, arrays, states))
    given = {k: rounded(v) for k, v in arrays.items()}
    held = {k: torch.from_numpy(v).float() for k, v in states.items()} if states else None
    exact = {k: v.double().numpy() for k, v in given.items()}
    ideal = results(*run_mixer(mixer.spec, exact, {k: v.double().numpy() for k, v in held.items()} if held else None))
    step: dict[str, float] = {}
    for form in mixer.forms:
        gpu = smir.compile(name, form=form, backend="triton")
        cuda = {k: v.cuda() for k, v in given.items()}
        on = {k: v.cuda() for k, v in held.items()} if held else None
        try:
            found = results(*gpu(**cuda, state=on, return_state=True))
            again = results(*gpu(**cuda, state=on, return_state=True))
        except smir.BackendError as refusal:
            yield {"spec": name, "form": form, "dtype": dtype, "case": case, "refused": str(refusal)}
            continue
        for key, value in truth.items():
            fine = np.isfinite(value)
            error = rms((found[key] - value)[fine]) / rms(value[fine])
            step.setdefault(key, error)
            rounding = rms((rounded(ideal[key]).double().numpy() - value)[fine]) / rms(value[fine])
            budget = (BFLOAT_FACTOR * rounding if dtype == "bfloat16"
                      else max(float32_factor(mixer) * step[key], FLOOR32))  # fmt: skip
            yield {"spec": name, "form": form, "dtype": dtype, "case": case, "result": key, "error": error,
                   "budget": budget, "repeats": bool(np.array_equal(found[key], again[key], equal_nan=True)),
                   "passed": bool(error <= budget)}  # fmt: skip


def results(y: Any, final: Mapping[str, Any]) -> dict[str, Any]:
    """y and the final states as float64 arrays; a state that comes as mantissa and log-scale is multiplied out."""
    found = {k: v if isinstance(v, np.ndarray) else v.double().cpu().numpy() for k, v in {"y": y, **final}.items()}
    logs = {name: found.pop(f"{name}_log") for name in tuple(found) if f"{name}_log" in found}
    return {k: v * _over(np.exp(logs[k]), v) if k in logs else v for k, v in found.items()}


def _over(scale: Any, state: Any) -> Any:
    """A scale `[B, H, *rows]` with as many axes as the state."""
    return scale.reshape(scale.shape + (1,) * (state.ndim - scale.ndim))


def times(name: str) -> Iterator[dict[str, Any]]:
    """Median milliseconds of the fast form's forward in bf16 at the two anchor shapes, K = V = 128."""
    import triton

    mixer = smir.compile(name, form=fast_form(name), backend="triton")
    for batch, tokens, heads in SPEED_SHAPES:
        given = large_arguments(mixer.spec, (batch, tokens, heads), lambda name: SPEED_SIZE)
        cuda = {name: x.bfloat16() for name, x in given.items()}
        ms = triton.testing.do_bench(lambda: mixer(**cuda), warmup=25, rep=100, return_mode="median")  # noqa: B023
        yield {"task": TIMES, "spec": name, "shape": f"{batch}x{tokens}x{heads}x{SPEED_SIZE}", "forward_ms": ms}


def warm(name: str) -> Iterator[dict[str, Any]]:
    """Compiles what `times` measures, so that this can run for many specs at once."""
    import torch

    mixer = smir.compile(name, form=fast_form(name), backend="triton")
    sizes = dict.fromkeys(dimension_names(mixer.spec), SPEED_SIZE)
    arrays = sample(mixer.spec, 1, 1024, 2, sizes, seed=3)
    mixer(**{k: torch.from_numpy(v).cuda().bfloat16() for k, v in arrays.items()})
    yield {"task": "warm", "spec": name}


def _summary(rows: list[dict[str, Any]]) -> None:
    specs = sorted({r["spec"] for r in rows})
    print(f"{'spec':<27}{'rows':>5}{'fail':>5}{'f32 err/budget':>16}{'bf16 err/budget':>16}{'moved':>6}  ms")
    for spec in specs:
        own = [r for r in rows if r["spec"] == spec]
        checks = [r for r in own if "error" in r]
        worst = {
            d: max((r["error"] / r["budget"] for r in checks if r["dtype"] == d), default=float("nan")) for d in DTYPES
        }
        ms = " ".join(f"{r['forward_ms']:.3f}" for r in own if "forward_ms" in r)
        print(f"{spec:<27}{len(checks):>5}{sum(not r['passed'] for r in checks):>5}{worst['float32']:>16.2f}"
              f"{worst['bfloat16']:>16.2f}{sum(not r['repeats'] for r in checks):>6}  {ms}")  # fmt: skip
    for r in rows:
        if "crashed" in r or "refused" in r:
            print(r["spec"], r.get("form", ""), r.get("dtype", ""), str(r.get("crashed") or r.get("refused"))[-700:])
    for r in [r for r in rows if "error" in r and not r["passed"]][:40]:
        print(
            "FAIL",
            *(r[k] for k in ("spec", "form", "dtype", "case", "result")),
            f"{r['error']:.2e} > {r['budget']:.2e}",
        )


if __name__ == "__main__":
    tasks = {CHECK: Task(check), "warm": Task(warm, recorded=False), TIMES: Task(times, alone=True)}
    run(MODULE, __doc__, tasks, _summary, f"B={B} T={T} H={H}, dimensions {SIZES}")
