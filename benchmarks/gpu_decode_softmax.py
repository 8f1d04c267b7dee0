"""Softmax mixers on a GPU from a state: prefill, tokens and segments against the whole sequence, and time per token.

    python -m benchmarks.gpu_decode_softmax [--specs softmax_causal,mla] [--tasks check,times] [--seconds 500]

`check` compares with numpy in float64; what is allowed is twice the error of one call with the whole sequence in the
same type. The past is long enough that several programs share it. `times` decodes in place, beside torch's attention
of one query on the same keys and values (which has neither gates nor positions).
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

import smir
from benchmarks.gpu_forward import DTYPES
from benchmarks.gpu_runs import CHECK, TIMES, Task, large_arguments, run
from smir.sampling import dimension_names, sample

MODULE = "benchmarks.gpu_decode_softmax"
SPECS = ("softmax_causal", "softmax_window8", "softmax_alibi", "softmax_gqa", "softmax_rope", "forgetting_attention",
         "mla")  # fmt: skip
# Prefill, tokens, a segment, one more token.
LENGTHS = (1500, 1, 1, 1, 100, 1)
HEADS, SIZE = 4, 64
# Errors of both ways differ by chance; below this nothing is asked for.
FACTOR, LEAST = 2.0, {"float32": 2e-6, "bfloat16": 4e-3}
PASTS, SPEED = (1024, 16384, 131072), (4, 32, 128)


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per type and way of keeping the state."""
    spec = smir.compile(name).spec
    drawn = sample(spec, 2, sum(LENGTHS), HEADS, dict.fromkeys(dimension_names(spec), SIZE), seed=1)
    if name == "softmax_gqa":
        drawn |= {n: drawn[n][:, :, : HEADS // 2] for n in ("k", "v")}
    for dtype in DTYPES:
        given = {n: torch.from_numpy(a).to("cuda", getattr(torch, dtype)) for n, a in drawn.items()}
        truth = smir.compile(name)(**{n: a.double().cpu().numpy() for n, a in given.items()})
        mixer = smir.compile(name, backend="triton")
        whole = _error(mixer(**given), truth)
        for inplace in (False, True):
            error = _error(_decoded(mixer, given, inplace), truth)
            budget = max(FACTOR * whole, LEAST[dtype])
            case = "in place" if inplace else "new states"
            yield {"spec": name, "form": "quadratic", "dtype": dtype, "case": case, "result": "y", "error": error,
                   "budget": budget, "whole": whole, "passed": bool(error <= budget)}  # fmt: skip


def _decoded(mixer: Any, given: Mapping[str, Any], inplace: bool) -> Any:
    """y of all segments, one behind the other."""
    inputs, at, found = {d.name for d in mixer.spec.inputs}, 0, []
    state: Any = mixer.new_state(capacity=64) if inplace else None
    for n in LENGTHS:
        part = {k: a[:, at : at + n] if k in inputs else a for k, a in given.items()}
        y, state = mixer.step(**part, state=state, inplace=inplace, several=True)
        found.append(y)
        at += n
    return torch.cat(found, 1)


def _error(y: Any, truth: Any) -> float:
    """Relative to the RMS of the truth."""
    found = y.double().cpu().numpy()
    return float(np.sqrt(np.mean(np.square(found - truth))) / np.sqrt(np.mean(np.square(truth))))


def times(name: str) -> Iterator[dict[str, Any]]:
    """Median milliseconds of a token after so many others in bf16."""
    import triton

    mixer = smir.compile(name, backend="triton")
    batch, heads, size = SPEED
    inputs = {d.name for d in mixer.spec.inputs}
    for past in PASTS:
        given = {n: a.bfloat16() for n, a in large_arguments(mixer.spec, (batch, past, heads), lambda _: size).items()}
        state: Any = mixer.new_state(capacity=past + 4096)
        kept = mixer.compilation.pair_segment.cache
        tokens = {n: a[:, -1] if n in inputs else a for n, a in given.items()}
        with torch.no_grad():
            state.append({f"{n}_past": given[n] for n in kept.inputs}, kept.tokens)
            del given
            ms = _bench(triton, partial(mixer.step, **tokens, state=state, inplace=True))
        yield {"task": TIMES, "spec": name, "past": past, "ms": ms, "torch": _torch(triton, past)}


def _torch(triton: Any, past: int) -> float:
    batch, heads, size = SPEED
    k, v = torch.randn(2, batch, heads, past, size, device="cuda", dtype=torch.bfloat16)
    q = k[:, :, :1] * 1.0
    return _bench(triton, lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v))


def _bench(triton: Any, call: Any) -> float:
    return float(triton.testing.do_bench(call, warmup=50, rep=200, return_mode="median"))


def _summary(rows: list[dict[str, Any]]) -> None:
    for r in rows:
        if "crashed" in r:
            print(r["spec"], r["crashed"][-500:])
        elif "ms" in r:
            print(f"{r['spec']:<24}{r['past']:>8} tokens {r['ms']:>8.3f} ms   torch {r['torch']:.3f} ms")
        else:
            print(f"{r['spec']:<24}{r['dtype']:<10}{r['case']:<12}{'ok' if r['passed'] else 'FAIL':<5}"
                  f"{r['error']:.1e}, whole {r['whole']:.1e}")  # fmt: skip


if __name__ == "__main__":
    sizes = f"segments of {', '.join(map(str, LENGTHS))}; {HEADS} heads of {SIZE}"
    run(MODULE, __doc__, {CHECK: Task(check), TIMES: Task(times, alone=True)}, _summary, sizes, SPECS)
