"""More elements than 32 bits count: inputs of over 2^31 elements on a GPU, forward and backward, one spec a class.

    python -m benchmarks.gpu_large [--specs scalar_decay,softmax_causal]

The last sequence of a large batch, run alone, must give the same output and gradients bit by bit: its addresses are the
only thing that differs. Gradients of parameters, sums over the batch, are left out. `packed` is the same with all
sequences in one row. Takes about 100 GiB of memory and one process at a time.
"""

from collections.abc import Iterator
from typing import Any

import torch

import smir
from benchmarks.gpu_runs import CHECK, Task, fast_form, run
from smir.sampling import dimension_names, sample

MODULE = "benchmarks.gpu_large"
# Batch, tokens, heads and dimension: 2^31 + 2^27 elements of one input, 4 GiB in bf16.
BATCH, TOKENS, HEADS, SIZE = 17, 8192, 128, 128
SIZES = {"N": 16, "M": 32}
# Decays, erases, scans, softmax of a band (all pairs of so many tokens would take minutes), step by step.
SPECS = ("scalar_decay", "gated_delta_rule", "hgrn", "softmax_window8", "gru")

# Measured settings may differ from batch to batch; both ways are to run the same kernels.
AS_RULED = {"SMIR_TUNING": "off"}


def check(name: str) -> Iterator[dict[str, Any]]:
    """One row per way and result."""
    mixer = smir.compile(name, form=fast_form(name), backend="triton")
    spec = mixer.spec
    size = {n: SIZES.get(n, SIZE) for n in dimension_names(spec)}
    drawn = sample(spec, 1, 64, 1, size, seed=1)
    inputs = {d.name for d in spec.inputs}
    given = {n: _spread(torch.from_numpy(a), n in inputs) for n, a in drawn.items()}
    largest = max(x.numel() for n, x in given.items() if n in inputs)
    assert largest > 2**31, f"{name}: only {largest} elements"
    alone = _gradients(mixer, {n: x[-1:].clone() if n in inputs else x for n, x in given.items()}, inputs)
    for way in ("batch", "packed"):
        arguments, more = given, {}
        if way == "packed":
            arguments = {n: x.reshape(1, -1, *x.shape[2:]) if n in inputs else x for n, x in given.items()}
            more = {"cu_seqlens": torch.arange(BATCH + 1, device="cuda", dtype=torch.int32) * TOKENS}
        torch.cuda.reset_peak_memory_stats()
        found = _gradients(mixer, arguments, inputs, **more)
        memory = torch.cuda.max_memory_allocated() / 2**30
        for key, value in alone.items():
            equal = bool(torch.equal(found.pop(key), value))
            yield {"spec": name, "form": fast_form(name), "case": way, "result": key, "elements": largest,
                   "GiB": round(memory, 1), "equal": equal, "finite": bool(value.isfinite().all()),
                   "passed": equal}  # fmt: skip


def _spread(drawn: Any, is_input: bool) -> Any:
    """Sixty-four tokens of a head, repeated in bf16; every sequence and head is a little different."""
    x = drawn.to("cuda", torch.bfloat16)
    if not is_input:
        return x.repeat(HEADS, *[1] * (x.ndim - 1))
    x = x.repeat(1, TOKENS // 64, HEADS, *[1] * (x.ndim - 3))
    x *= 0.9 + 0.1 * torch.rand_like(x)
    whole = torch.empty(BATCH, *x.shape[1:], device="cuda", dtype=x.dtype)
    for n in range(BATCH):
        whole[n] = x[0] * (1.0 - 0.02 * n)
    return whole


def _gradients(mixer: Any, given: dict[str, Any], inputs: set[str], **more: Any) -> dict[str, Any]:
    """The last `TOKENS` tokens of y and of the inputs' gradients, for a cotangent that depends on token and channel."""
    leaves = {n: x.detach().requires_grad_() for n, x in given.items()}
    y = mixer(**leaves, **more)
    tokens = torch.arange(y.shape[1], device="cuda").remainder(TOKENS).reshape(-1, *[1] * (y.ndim - 2))
    seed = torch.cos(tokens + torch.arange(y.shape[-1], device="cuda")).to(y.dtype).expand(y.shape)
    y.backward(seed)
    found = {"y": y.detach()[-1:, -TOKENS:].clone()}
    for n in inputs:
        grad = leaves[n].grad
        found[f"d_{n}"] = grad[-1:, -TOKENS:].clone()
        leaves[n].grad = None
    return found


def _summary(rows: list[dict[str, Any]]) -> None:
    for r in rows:
        if "crashed" in r:
            print(r["spec"], r["crashed"][-700:])
        else:
            print(*(r[k] for k in ("spec", "form", "case", "result", "elements", "GiB")),
                  "equal" if r["passed"] else "DIFFERENT", "" if r["finite"] else "NOT FINITE")  # fmt: skip


if __name__ == "__main__":
    run(
        MODULE,
        __doc__,
        {CHECK: Task(check, alone=True, variables=AS_RULED)},
        _summary,
        f"{BATCH}x{TOKENS}x{HEADS}x{SIZE}",
        SPECS,
    )
