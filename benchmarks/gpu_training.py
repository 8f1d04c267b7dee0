"""Gradients on a GPU: errors against float64 within the budget of docs/verification.md; training times beside peers.

Run with `python -m benchmarks.gpu_training [--specs a,b] [--out FILE] [--jobs 12] [--no-times]`. Every spec runs in a
process of its own. Gradients go through torch's autograd, with cotangents for the output and for the final states; the
truth is the float64 step form, which the golden vectors anchor. Peers are measured in the same run where `fla` imports.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import smir
from benchmarks.gpu_forward import DTYPES, ERASE_FACTOR, FLOOR32, SPEED_SHAPES, STEP_FACTOR, rms
from benchmarks.gpu_runs import run
from smir.sampling import dimension_names, sample, sample_states

B, T, H = 2, 200, 2
SIZES = (64, 64)
SPEED_SIZE = 128
BFLOAT_FACTOR = 2.0
MODULE = "benchmarks.gpu_training"
# Peers that compute the same mixer, by library spec: module and function of flash-linear-attention, its keywords.
PEERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "linear_attention": ("fla.ops.linear_attn", "chunk_linear_attn", {"q": "q", "k": "k", "v": "v"}),
    "scalar_decay": ("fla.ops.simple_gla", "chunk_simple_gla", {"q": "q", "k": "k", "v": "v", "g": "g"}),
    "gla": ("fla.ops.gla", "chunk_gla", {"q": "q", "k": "k", "v": "v", "g": "g"}),
    "delta_rule": ("fla.ops.delta_rule", "chunk_delta_rule", {"q": "q", "k": "k", "v": "v", "beta": "beta"}),
    "gated_delta_rule": ("fla.ops.gated_delta_rule", "chunk_gated_delta_rule",
                         {"q": "q", "k": "k", "v": "v", "g": "g", "beta": "beta"}),
    "kda": ("fla.ops.kda", "chunk_kda", {"q": "q", "k": "k", "v": "v", "g": "g", "beta": "beta"}),
}  # fmt: skip


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per form, dtype, case and gradient of a library spec."""
    mixer = smir.compile(name)
    sizes = dict(zip(sorted(dimension_names(mixer.spec)), SIZES, strict=False))
    for case in ("usual", "extreme"):
        arrays = sample(mixer.spec, B, T, H, sizes, seed=1, extreme=case == "extreme")
        states = sample_states(mixer.spec, B, H, sizes, seed=2) if mixer.spec.states else {}
        for dtype in DTYPES:
            yield from _case(mixer, name, case, dtype, arrays, states)


def _case(mixer: Any, name: str, case: str, dtype: str, arrays: Mapping[str, Any], states: Mapping[str, Any]
          ) -> Iterator[dict[str, Any]]:  # fmt: skip
    truth = gradients(name, "step", "numpy", "float64", arrays, states)
    rounded = {k: _round(v, dtype) for k, v in arrays.items()}
    ideal = gradients(name, "step", "numpy", "float64", rounded, states, dtype)
    step = gradients(name, "step", "numpy", "float32", arrays, states)
    erases = mixer.compilation.operators is not None and any(o.erases for o in mixer.compilation.operators.operators)
    for form in ("step", "chunked"):
        found = gradients(name, form, "triton", dtype, arrays, states)
        again = gradients(name, form, "triton", dtype, arrays, states)
        for key, value in truth.items():
            # a factor of exactly zero has no logarithm: chunks give it no gradient (docs/verification.md)
            fine = np.isfinite(value) & _has_log(mixer, key, arrays.get(key), form)
            scale = rms(value[fine]) or 1.0
            error = rms((found[key] - value)[fine]) / scale
            rounding = rms((_round(ideal[key], dtype) - value)[fine]) / scale
            factor = ERASE_FACTOR if erases else STEP_FACTOR
            single = max(factor * rms((step[key] - value)[fine]) / scale, FLOOR32)
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
    """Median milliseconds of forward and forward + backward in bf16, and the memory of a step, beside the peer's."""
    import torch

    mixer = smir.compile(name, form="chunked", backend="triton")
    sizes = dict.fromkeys(dimension_names(mixer.spec), SPEED_SIZE)
    for batch, tokens, heads in SPEED_SHAPES:
        inputs = _inputs(mixer, batch, tokens, heads, sizes)
        row = {"spec": name, "shape": f"{batch}x{tokens}x{heads}x{SPEED_SIZE}"}
        row |= _measured("", lambda x: mixer(**x), inputs)
        row |= _peer(name, inputs)
        yield row
        del inputs
        torch.cuda.empty_cache()


def warm(name: str) -> Iterator[dict[str, Any]]:
    """Compiles what `times` measures, so that this can run for many specs at once."""
    mixer = smir.compile(name, form="chunked", backend="triton")
    sizes = dict.fromkeys(dimension_names(mixer.spec), SPEED_SIZE)
    inputs = _inputs(mixer, 1, 1024, 2, sizes)
    mixer(**inputs).float().sum().backward()
    if has_peers():
        _peer(name, _inputs(mixer, *SPEED_SHAPES[0], sizes))
    yield {"spec": name, "warm": True}


def has_peers() -> bool:
    """Whether peers are installed."""
    return importlib.util.find_spec("fla") is not None


def _inputs(mixer: Any, batch: int, tokens: int, heads: int, sizes: Mapping[str, int]) -> dict[str, Any]:
    import torch

    small = sample(mixer.spec, 1, 1024, 1, sizes, seed=3)
    found = {}
    for d in mixer.spec.declarations:
        x = torch.from_numpy(small[d.name]).cuda()
        if d.kind == "input":
            x = x.repeat(batch, tokens // 1024, heads, *[1] * (x.ndim - 3))
            x = x * (0.9 + 0.1 * torch.rand_like(x))
        else:
            x = x.repeat(heads, *[1] * (x.ndim - 1))
        found[d.name] = x.bfloat16().contiguous().requires_grad_()
    return found


def _measured(prefix: str, call: Callable[[dict[str, Any]], Any], inputs: dict[str, Any]) -> dict[str, Any]:
    import torch
    import triton

    def bench(run: Callable[[], Any]) -> float:
        return float(triton.testing.do_bench(run, warmup=25, rep=100, return_mode="median"))

    seed = torch.randn_like(call(inputs))

    def forward() -> None:
        with torch.no_grad():
            call(inputs)

    def both() -> None:
        for x in inputs.values():
            x.grad = None
        call(inputs).backward(seed)

    row = {f"{prefix}forward_ms": bench(forward), f"{prefix}both_ms": bench(both)}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both()
    return row | {f"{prefix}extra_MiB": (torch.cuda.max_memory_allocated() - before) / 2**20}


def _peer(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The peer's figures; empty where there is none or it isn't installed."""
    if name not in PEERS:
        return {}
    module, function, names = PEERS[name]
    try:
        import importlib

        call = getattr(importlib.import_module(module), function)
        # its guard refuses some Triton versions for wrong gradients; here only the time counts
        importlib.import_module("fla.ops.common.chunk_o").TRITON_ABOVE_3_7_1 = True  # type: ignore[attr-defined]
        extra = {"normalize": False} if name == "linear_attention" else {}
        own = {k: inputs[v].detach().clone().requires_grad_() for k, v in names.items()}
        return _measured("peer_", lambda x: call(**x, **extra)[0], own)
    except (ImportError, RuntimeError, AssertionError, TypeError, ValueError) as error:
        return {"peer_error": f"{type(error).__name__}: {str(error)[:200]}"}


def _summary(rows: list[dict[str, Any]]) -> None:
    print(f"{'spec':<27}{'rows':>5}{'fail':>5}{'f32':>7}{'bf16':>7}{'moved':>6}  shape: fwd / fwd+bwd ms (peer)")
    for spec in sorted({r["spec"] for r in rows}):
        own = [r for r in rows if r["spec"] == spec]
        checks = [r for r in own if "error" in r]
        worst = {
            d: max((r["error"] / r["budget"] for r in checks if r["dtype"] == d), default=float("nan")) for d in DTYPES
        }
        speed = "; ".join(
            f"{r['forward_ms']:.3f}/{r['both_ms']:.2f} {r['extra_MiB']:.0f}M"
            + (f" ({r['peer_forward_ms']:.3f}/{r['peer_both_ms']:.2f} {r['peer_extra_MiB']:.0f}M)"
               if "peer_both_ms" in r else "")
            for r in own if "both_ms" in r
        )  # fmt: skip
        print(f"{spec:<27}{len(checks):>5}{sum(not r['passed'] for r in checks):>5}{worst['float32']:>7.2f}"
              f"{worst['bfloat16']:>7.2f}{sum(not r['repeats'] for r in checks):>6}  {speed}")  # fmt: skip
    for r in rows:
        if "crashed" in r or "peer_error" in r:
            print(r["spec"], str(r.get("crashed") or r.get("peer_error"))[-500:])
    for r in [r for r in rows if "error" in r and not r["passed"]][:40]:
        print(
            "FAIL",
            *(r[k] for k in ("spec", "form", "dtype", "case", "result")),
            f"{r['error']:.2e} > {r['budget']:.2e}",
        )


if __name__ == "__main__":
    tasks = {"check": check, "times": times, "warm": warm}
    run(MODULE, __doc__, tasks, _summary, f"B={B} T={T} H={H}, dimensions {SIZES}")
