"""What runs in the interpreter's process for packed sequences: one launch against a loop over the sequences."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

import smir
from smir.sampling import sample, sample_states

# One token, none, a chunk and a bit of the next, less than a chunk.
LENGTHS = (1, 0, 18, 5)
CHUNK, HEADS = 16, 2
Results = dict[str, Any]


def compare_packed(spec: str, form: str, backend: str = "triton") -> list[str]:
    """What differs between one call with packed sequences and the same kernels called for each sequence.

    Outputs, final states and gradients of inputs and initial states must be the same numbers: other sequences are
    nowhere to be seen. Gradients of parameters are sums over the sequences, those of inputs that are read with a delay
    sums over the delays, in float32 in another order.
    """
    import torch

    mixer = smir.compile(spec, form=form, backend=backend, chunk=None if form == "step" else CHUNK)
    arrays, states = _arguments(mixer)
    whole, parts = _packed(mixer, arrays, states), _loop(mixer, arrays, states)
    pasts = mixer.calls.call_states.pasts
    summed = {f"d_{name}" for name in (*(d.name for d in mixer.spec.params), *(p.of for p in pasts))}
    wrong = sorted(whole.keys() ^ parts.keys())
    for name in whole.keys() & parts.keys():
        one, other = whole[name], parts[name]
        close = torch.allclose(one, other, rtol=0, atol=1e-5 * max(1.0, float(other.abs().max())))
        if not (close if name in summed else torch.equal(one, other)):
            wrong.append(f"{name}: {float((one - other).abs().max())}")
    return wrong


def tables_made(spec: str) -> tuple[int, int]:
    """How many tables two layers make, forward and backward; and again after the lengths have changed in place."""
    import torch

    from smir.backends.triton_gpu import packed

    made, original = [], packed.chunk_table

    def counting(*args: Any) -> Any:
        made.append(args)
        return original(*args)

    packed.chunk_table = counting
    try:
        mixers = [smir.compile(spec, form=form, backend="triton", chunk=CHUNK) for form in ("chunked", "quadratic")]
        arrays, _ = _arguments(mixers[0])
        bounds = torch.tensor([0, 7, 24])
        for mixer in mixers:
            mixer(**{n: a.clone().requires_grad_() for n, a in arrays.items()}, cu_seqlens=bounds).sum().backward()
        before = len(made)
        bounds[1] = 9
        y = mixers[0](**arrays, cu_seqlens=bounds)
        fresh = mixers[0](**arrays, cu_seqlens=torch.tensor([0, 9, 24]))
        assert torch.equal(y, fresh), "the table of the old lengths was used"
        return before, len(made) - before
    finally:
        packed.chunk_table = original


def packed_resources(spec: str) -> list[tuple[Any, ...]]:
    """(kernel, within limits) of the packed kernels of a training step, compiled for sm_90."""
    from smir.backends.triton_gpu.ahead_of_time import Workload, compile_plan
    from smir.sampling import dimension_names

    mixer = smir.compile(spec)
    plans = mixer.training_plan(form="chunked")
    workload = Workload(dict.fromkeys(dimension_names(mixer.spec), 64), packed=True)
    found = [r for plan in (plans.forward, plans.backward) for r in compile_plan(plan, "sm_90", workload)]
    return [(r.kernel, r.within_limits) for r in found]


def far_apart(spec: str) -> list[str]:
    """What differs for tensors whose channels lie 2^28 elements apart: their offsets don't fit into 32 bits."""
    import torch

    mixer = smir.compile(spec, form="chunked", backend="triton", chunk=CHUNK)
    arrays = {n: torch.from_numpy(a).half() for n, a in sample(mixer.spec, 1, 5, 1, {"K": 16, "V": 16}, seed=3).items()}
    vectors = [d.name for d in mixer.spec.inputs if d.dims]
    memory = torch.empty(2**28 * 16, dtype=torch.float16)  # pages that nobody touches take no memory
    wide = dict(arrays)
    for place, name in enumerate(vectors):
        x = arrays[name]
        steps = (x.shape[1] * x.shape[2] * 64, x.shape[2] * 64, 64, 2**28)
        wide[name] = memory.as_strided(x.shape, steps, 4 * place)
        wide[name].copy_(x)
    y, expected = mixer(**wide), mixer(**arrays)
    return [] if torch.equal(y, expected) else [f"{float((y - expected).abs().max())}"]


def _arguments(mixer: smir.CompiledMixer) -> tuple[Results, Results]:
    import torch

    tokens = sum(LENGTHS)
    arrays = sample(mixer.spec, 1, tokens, HEADS, {}, seed=3)
    states = sample_states(mixer.spec, len(LENGTHS), HEADS, {}, seed=4)
    for past in mixer.calls.call_states.pasts:
        like = arrays[past.of][0] if past.is_input else states[past.of]
        shape = (len(LENGTHS), len(past.ages), *like.shape[1:])
        states[past.name] = np.random.default_rng(5).uniform(-0.5, 0.5, shape)
    found = [{n: torch.from_numpy(a).float() for n, a in group.items()} for group in (arrays, states)]
    return found[0], found[1]


def _bounds() -> list[int]:
    return [sum(LENGTHS[:n]) for n in range(len(LENGTHS) + 1)]


def _packed(mixer: smir.CompiledMixer, arrays: Mapping[str, Any], states: Mapping[str, Any]) -> Results:
    import torch

    there = [n for n, length in enumerate(LENGTHS) if length]
    found = _step(mixer, arrays, states, there, cu_seqlens=torch.tensor(_bounds(), dtype=torch.int32))
    return {n: x[there] if n.startswith("final ") or n[2:] in states else x for n, x in found.items()}


def _loop(mixer: smir.CompiledMixer, arrays: Mapping[str, Any], states: Mapping[str, Any]) -> Results:
    import torch

    inputs, found = {d.name for d in mixer.spec.inputs}, []
    for n, (first, last) in enumerate(pairwise(_bounds())):
        if first < last:
            part = {name: a[:, first:last] if name in inputs else a for name, a in arrays.items()}
            found.append(_step(mixer, part, {name: s[n : n + 1] for name, s in states.items()}, None, first=first))
    join: Results = {}
    for name in found[0]:
        pieces = [f[name] for f in found]
        if name[2:] in inputs or name == "y":
            join[name] = torch.cat(pieces, 1)
        elif name.startswith("final ") or name[2:] in states:
            join[name] = torch.cat(pieces)
        else:
            join[name] = sum(pieces[1:], pieces[0])
    return join


def _step(
    mixer: smir.CompiledMixer,
    arrays: Mapping[str, Any],
    states: Mapping[str, Any],
    there: Any,
    first: int = 0,
    **more: Any,
) -> Results:
    """Forward and backward; cotangents are functions of the token and of the state's entry, the same in both ways."""
    import torch

    leaves = {n: a.clone().requires_grad_() for n, a in {**arrays, **states}.items()}
    done = mixer.compilation
    continues = done.lookahead is None and done.pair_segment is None
    given = {n: leaves[n] for n in arrays}
    if continues:
        y, final = mixer(**given, state={n: leaves[n] for n in states} or None, return_state=True, **more)
    else:
        y, final = mixer(**given, **more), {}
    tokens = torch.arange(first, first + y.shape[1]).reshape(-1, *[1] * (y.ndim - 2))
    loss = (y * torch.cos(tokens + torch.arange(y.shape[-1]))).sum()
    for s in (s if there is None else s[there] for n, s in final.items() if s.requires_grad):
        loss = loss + (s * torch.sin(torch.arange(s[0].numel())).reshape(s.shape[1:])).sum()
    loss.backward()
    found = {"y": y.detach(), **{f"final {n}": s.detach() for n, s in final.items()}}
    return found | {f"d_{n}": torch.zeros_like(a) if a.grad is None else a.grad for n, a in leaves.items()}
