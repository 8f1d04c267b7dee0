"""Packed sequences on a GPU: one call against a call for each sequence, without a wait for the device, and its time.

    python -m benchmarks.gpu_packed [--specs gla,kda] [--tasks check,times] [--seconds 500]

`check` runs the same form, forward and backward with initial states, both ways. The kernels do the same arithmetic, so
most numbers are equal bit by bit (`equal`); a compiler may fuse other products in the packed kernels, and gradients of
parameters are summed in another order, so what is asked for is a distance of a few roundings. `times` compares packed
rows of equal lengths with the ordinary batch of the same tokens, and adds unequal lengths.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch

import smir
from benchmarks.gpu_forward import DTYPES
from benchmarks.gpu_runs import CHECK, TIMES, Task, fast_form, large_arguments, run
from smir.sampling import dimension_names, sample, sample_states

MODULE = "benchmarks.gpu_packed"
# One token, more than two chunks, none, exactly one chunk, less than one.
LENGTHS = (1, 200, 0, 64, 37)
HEADS, SIZES, SIZE = 2, {"N": 16, "M": 32}, 64
# Relative to the RMS of the loop's result: some roundings of float32, two of bfloat16.
BUDGET = {"float32": 1e-5, "bfloat16": 2.0**-7}
BATCH, TOKENS, SPEED_HEADS, SPEED_SIZE = 8, 4096, 16, 128
# Shares of all tokens, of one long and many short sequences.
UNEQUAL = (0.5, 0.2, 0.1, 0.05, 0.05, 0.04, 0.03, 0.01, 0.01, 0.01)
# Measured settings may differ from length to length; both ways are to run the same kernels.
AS_RULED = {"SMIR_TUNING": "off"}
Results = dict[str, Any]


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per form, type and result; a row `no wait` for each form and type."""
    spec = smir.compile(name).spec
    if any("T" in map(str, d.dims) for d in spec.declarations):
        return
    sizes = {n: SIZES.get(n, SIZE) for n in dimension_names(spec)}
    drawn = sample(spec, 1, sum(LENGTHS), HEADS, sizes, seed=1)
    starts = sample_states(spec, len(LENGTHS), HEADS, sizes, seed=2) if spec.states else {}
    params = {f"d_{d.name}" for d in spec.params}
    for form in smir.compile(name).compilation.plans:
        for dtype in DTYPES:
            mixer = smir.compile(name, form=form, backend="triton")
            given = {n: torch.from_numpy(a).to("cuda", getattr(torch, dtype)) for n, a in drawn.items()}
            states = {n: torch.from_numpy(a).float().cuda() for n, a in starts.items()}
            row = {"spec": name, "form": form, "dtype": dtype}
            whole, parts = _packed(mixer, given, states), _loop(mixer, given, states)
            for key, value in parts.items():
                scale = float(value.double().square().mean().sqrt()) or 1.0
                error = float((whole[key].double() - value.double()).square().mean().sqrt()) / scale
                budget = len(LENGTHS) * BUDGET[dtype] if key in params else BUDGET[dtype]
                yield {**row, "case": "loop", "result": key, "error": error, "budget": budget,
                       "equal": bool(torch.equal(whole[key], value)), "passed": bool(error <= budget)}  # fmt: skip
            yield {**row, **_without_waiting(mixer, given, states)}


def _bounds() -> Any:
    return torch.tensor([sum(LENGTHS[:n]) for n in range(len(LENGTHS) + 1)], dtype=torch.int32, device="cuda")


def _packed(mixer: Any, given: Results, states: Results) -> Results:
    there = [n for n, length in enumerate(LENGTHS) if length]
    found = _step(mixer, given, states, there, cu_seqlens=_bounds())
    return {n: x[there] if n.startswith("final ") or n[2:] in states else x for n, x in found.items()}


def _loop(mixer: Any, given: Results, states: Results) -> Results:
    """The results of all sequences, joined as a packed call gives them."""
    inputs, found = {d.name for d in mixer.spec.inputs}, []
    for n, (first, last) in enumerate(pairwise(_bounds().tolist())):
        if first < last:
            part = {k: a[:, first:last] if k in inputs else a for k, a in given.items()}
            found.append(_step(mixer, part, {k: s[n : n + 1] for k, s in states.items()}, None, first))
    joined: Results = {}
    for key in found[0]:
        pieces = [f[key] for f in found]
        if key == "y" or key[2:] in inputs:
            joined[key] = torch.cat(pieces, 1)
        elif key.startswith("final ") or key[2:] in states:
            joined[key] = torch.cat(pieces)
        else:
            joined[key] = sum(p.double() for p in pieces)
    return joined


def _step(mixer: Any, given: Results, states: Results, there: Any, first: int = 0, **more: Any) -> Results:
    """y, final states and gradients; cotangents depend on token and entry alone, so they are the same both ways."""
    leaves = {n: a.detach().clone().requires_grad_() for n, a in {**given, **states}.items()}
    arguments = {n: leaves[n] for n in given}
    done, final = mixer.compilation, {}
    if done.lookahead is None and done.pair_segment is None:
        y, final = mixer(**arguments, state={n: leaves[n] for n in states} or None, return_state=True, **more)
    else:
        y = mixer(**arguments, **more)
    tokens = torch.arange(first, first + y.shape[1], device="cuda").reshape(-1, *[1] * (y.ndim - 2))
    loss = (y * torch.cos(tokens + torch.arange(y.shape[-1], device="cuda")).to(y.dtype)).sum()
    for s in (s if there is None else s[there] for s in final.values() if s.requires_grad):
        weights = torch.sin(torch.arange(s[0].numel(), device="cuda", dtype=torch.float32))
        loss = loss + (s * weights.reshape(s.shape[1:])).sum().to(loss.dtype)
    loss.backward()
    found = {"y": y.detach(), **{f"final {n}": s.detach() for n, s in final.items()}}
    return found | {f"d_{n}": torch.zeros_like(a) if a.grad is None else a.grad for n, a in leaves.items()}


def _without_waiting(mixer: Any, given: Results, states: Results) -> dict[str, Any]:
    """Whether a second call, forward and backward, runs where every wait for the device is an error."""
    leaves, bounds = {n: a.detach().clone().requires_grad_() for n, a in given.items()}, _bounds()
    held = {n: s.detach().clone().requires_grad_() for n, s in states.items()}
    done = mixer.compilation
    continues = done.lookahead is None and done.pair_segment is None
    more = {"return_state": True, "state": held or None} if continues else {}
    why = ""
    for last in (False, True):
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error" if last else "default")
        try:
            found = mixer(**leaves, cu_seqlens=bounds, **more)
            y = found[0] if continues else found
            y.backward(torch.ones_like(y))
        except RuntimeError as error:
            why = str(error)[:300]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return {"case": "no wait", "result": why or "none", "error": float(bool(why)), "budget": 0.0, "equal": not why,
            "passed": not why}  # fmt: skip


def times(name: str) -> Iterator[dict[str, Any]]:
    """Median milliseconds in bf16 of the ordinary batch, of the same sequences packed, and of unequal ones."""
    mixer = smir.compile(name, form=fast_form(name), backend="triton")
    if any("T" in map(str, d.dims) for d in mixer.spec.declarations):
        return
    batch = large_arguments(mixer.spec, (BATCH, TOKENS, SPEED_HEADS), lambda _: SPEED_SIZE)
    batch = {n: x.bfloat16() for n, x in batch.items()}
    inputs = {d.name for d in mixer.spec.inputs}
    row = {n: x.reshape(1, -1, *x.shape[2:]) if n in inputs else x for n, x in batch.items()}
    ends = torch.tensor(UNEQUAL, dtype=torch.float64).cumsum(0).mul(BATCH * TOKENS).round().long().tolist()
    ends[-1] = BATCH * TOKENS
    ways: Mapping[str, tuple[Results, dict[str, Any]]] = {
        "batch": (batch, {}),
        "equal": (row, {"cu_seqlens": torch.arange(BATCH + 1, dtype=torch.int32, device="cuda") * TOKENS}),
        "unequal": (row, {"cu_seqlens": torch.tensor([0, *ends], dtype=torch.int32, device="cuda")}),
    }
    for way, (given, more) in ways.items():
        forward, both = _timed(mixer, given, more)
        yield {"task": TIMES, "spec": name, "form": fast_form(name), "way": way, "forward_ms": forward, "both_ms": both}


def _timed(mixer: Any, given: Results, more: dict[str, Any]) -> tuple[float, float]:
    """Of a forward pass, and of a forward and a backward pass."""
    import triton

    leaves = {n: x.detach().clone().requires_grad_() for n, x in given.items()}

    def bench(call: Callable[[], Any]) -> float:
        return float(triton.testing.do_bench(call, warmup=50, rep=200, return_mode="median"))

    y = mixer(**leaves, **more)
    seed = torch.randn_like(y)
    del y

    def forward() -> None:
        with torch.no_grad():
            mixer(**leaves, **more)

    def both() -> None:
        for x in leaves.values():
            x.grad = None
        mixer(**leaves, **more).backward(seed)

    return bench(forward), bench(both)


def _summary(rows: list[dict[str, Any]]) -> None:
    print(f"{'spec':<27}{'rows':>5}{'fail':>5}{'equal':>6}{'f32':>7}{'bf16':>7}{'waits':>6}  fwd / fwd+bwd ms")
    for spec in sorted({r["spec"] for r in rows}):
        own = [r for r in rows if r["spec"] == spec]
        checks = [r for r in own if r.get("case") == "loop"]
        worst = {d: max((r["error"] / r["budget"] for r in checks if r["dtype"] == d), default=0.0) for d in DTYPES}
        speed = ", ".join(f"{r['way']} {r['forward_ms']:.3f}/{r['both_ms']:.2f}" for r in own if "way" in r)
        waits = sum(not r["passed"] for r in own if r.get("case") == "no wait")
        print(f"{spec:<27}{len(checks):>5}{sum(not r['passed'] for r in checks):>5}{sum(r['equal'] for r in checks):>6}"
              f"{worst['float32']:>7.2f}{worst['bfloat16']:>7.2f}{waits:>6}  {speed}")  # fmt: skip
    for r in rows:
        if "crashed" in r:
            print(r["spec"], r["crashed"][-500:])
    for r in [r for r in rows if "error" in r and not r["passed"]][:40]:
        print(
            "FAIL",
            *(r[k] for k in ("spec", "form", "dtype", "case", "result")),
            f"{r['error']:.2e} > {r['budget']:.2e}",
        )


if __name__ == "__main__":
    sizes = f"lengths {', '.join(map(str, LENGTHS))}; {HEADS} heads, dimensions {SIZE}"
    run(MODULE, __doc__, {CHECK: Task(check, variables=AS_RULED), TIMES: Task(times, alone=True)}, _summary, sizes)
