"""A step of decoding as an operator of torch, for whatever traces steps before it runs them.

`smir::step` takes the state of the tokens before and gives that after them: nothing is overwritten inside a graph. What
asks for its state in place gets it copied there, which the graph's compiler may turn into the write itself. Where
autograd looks on, the step is a call of a few tokens in the step form, and falls into its passes as any call does.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from smir.calls.array_kinds import promote
from smir.calls.binding import Fit, fit_call, match_arguments
from smir.errors import ArgumentError
from smir.ir.segment import POSITION, past_of
from smir.passes.segments.delays import line_name
from smir.passes.stabilisation.stabilise import SUFFIX
from smir.states.pair_segments import PairSteps
from smir.states.stepping import Steps, with_time
from smir.torch_side.operators import LIBRARY, as_tensor, calls_of, described, in_own_memory

if TYPE_CHECKING:
    from smir.running import Calls

Tensor = Any
Tensors = Sequence[Tensor]
Shape = tuple[Any, ...]


def traced_step(
    calls: "Calls",
    args: tuple[Any, ...],
    named: dict[str, Any],
    state: Mapping[str, Any] | None,
    inplace: bool,
    several: bool,
) -> tuple[Any, Mapping[str, Any]]:
    """A step as one operator. Raises what a step raises about names, and ArgumentError for a state that grows in place:
    its memory is no tensor of the graph."""
    state = {} if state is None else state
    text, order, entries = _settled(calls.handle, len(args), tuple(named), tuple(state), inplace)
    values = (*args, *named.values(), *state.values())
    device = next(a.device for a in values if isinstance(a, torch.Tensor))
    tensors = [as_tensor(values[i], device) for i in order]
    y, *after = torch.ops.smir.step(tensors, list(state), several, text)
    found = dict(zip(entries, after, strict=True))
    if not inplace:
        return y, found
    for name, own in state.items():
        own.copy_(found[name])
    return y, state


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _settled(
    handle: str, positional: int, named: tuple[str, ...], state: tuple[str, ...], inplace: bool
) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """What a step's names settle: the mixer's text, the numbers of the operator's tensors among all values given, and
    the names of the entries that come back."""
    from smir.running import calls_by_handle

    calls = calls_by_handle(handle)
    count = positional + len(named)
    given = match_arguments(calls.spec, range(positional), dict(zip(named, range(positional, count), strict=True)))
    calls.call_states.match(dict.fromkeys(state) or None)
    steps = calls.steps
    if inplace and isinstance(steps, PairSteps):
        raise ArgumentError(f"inplace=True in a traced step of {calls.spec.name}, whose state grows",
                            hint="inplace=False returns a state of its own; or step outside of the graph")  # fmt: skip
    if inplace and isinstance(steps, Steps):
        steps.check_whole(state)
    order = (*given.values(), *range(count, count + len(state)))
    return described(calls), order, calls.call_states.names


# ---- the operator -----------------------------------------------------------------------------------------------

# The arguments in the order of declaration, then the entries of `state` that are named; y, and all entries after it.
LIBRARY.define("step(Tensor[] tensors, str[] state, bool several, str mixer) -> Tensor[]")


def _split(tensors: Tensors, state: Sequence[str], calls: "Calls") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    names = [d.name for d in calls.spec.declarations]
    given = dict(zip(names, tensors, strict=False))
    return given, dict(zip(state, tensors[len(names) :], strict=True))


def _run_step(tensors: Tensors, state: Sequence[str], several: bool, text: str) -> list[Tensor]:
    calls = calls_of(text)
    y, after = calls.steps(*_split(tensors, state, calls), False, several)
    return [y, *(after[name] for name in calls.call_states.names)]


def _step(tensors: Tensors, *rest: Any) -> list[Tensor]:
    with torch.no_grad():
        return in_own_memory(_run_step([t.detach() for t in tensors], *rest), tensors)


def _recorded_step(keys: Any, tensors: Tensors, *rest: Any) -> list[Tensor]:
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return _run_step(tensors, *rest)
    with torch._C._AutoDispatchBelowAutograd():
        below = keys & torch._C._after_autograd_keyset
        return list(torch.ops.smir.step.default.redispatch(below, tensors, *rest))


# ---- without values ---------------------------------------------------------------------------------------------


def _fake_step(tensors: Tensors, state: Sequence[str], several: bool, text: str) -> list[Tensor]:
    calls = calls_of(text)
    given, before = _split(tensors, state, calls)
    tokens = given if several else with_time(calls.spec, given)
    entries = _pair_entries if calls.pair_segments is not None else _entries
    own = {} if calls.pair_segments is not None else calls.call_states.split(before)[0]
    fit = fit_call(calls.scaled_states.interface, tokens, own)
    lead = (fit.batch, *((fit.tokens,) if several else ()), *((fit.heads,) if fit.has_heads else ()))
    y = (*lead, *(d.size(fit.sizes) for d in calls.spec.output_dims))
    found = entries(calls, fit, tokens, before)
    empty = tensors[0].new_empty
    return [empty(y, dtype=getattr(torch, fit.dtype)), *(empty(shape, dtype=kind) for shape, kind in found)]


def _entries(calls: "Calls", fit: Fit, tokens: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> list[Any]:
    """Shape and type of each entry after a step of states, which keep the types in which they were given."""
    lead = (fit.batch, fit.heads) if fit.has_heads else (fit.batch,)
    plain = getattr(torch, fit.state_dtype)
    shapes = {s.name: (*lead, *(d.size(fit.sizes) for d in s.dims)) for s in calls.scaled_states.interface.states}
    found = []
    for name, shape in shapes.items():
        kind = before[name].dtype if name in before else plain
        found.append((shape, _at_least_single(kind) if name.endswith(SUFFIX) else kind))
    for past in calls.call_states.pasts:
        shape = tokens[past.of].shape[2:] if past.is_input else shapes[past.of][1:]
        like = before.get(past.name)
        kind = like.dtype if like is not None else tokens[past.of].dtype if past.is_input else plain
        found.append(((fit.batch, len(past.ages), *shape), kind))
    return found


def _at_least_single(kind: Any) -> Any:
    return getattr(torch, promote((str(kind).removeprefix("torch."), "float32")))


def _pair_entries(calls: "Calls", fit: Fit, tokens: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> list[Any]:
    """The same after a step of tokens: those before it and its own."""
    segments = calls.pair_segments
    assert segments is not None
    cache = segments.cache
    read = dict(tokens) | {line_name(name, age): tokens[name] for name, ages in cache.delays for age in ages}
    found = []
    for name in cache.inputs:
        count = fit.tokens + (before[past_of(name)].shape[1] if past_of(name) in before else 0)
        kept = count if cache.tokens is None else torch.sym_min(count, cache.tokens)
        found.append(((fit.batch, kept, *read[name].shape[2:]), read[name].dtype))
    lines = [name for name, _ in cache.delays if name not in cache.inputs]
    found += [((fit.batch, cache.longest(name), *tokens[name].shape[2:]), tokens[name].dtype) for name in lines]
    return [*found, *([((), torch.int64)] if POSITION in cache.names else [])]


LIBRARY.impl("step", _step, "CompositeExplicitAutograd")
LIBRARY.impl("step", _recorded_step, "Autograd", with_keyset=True)
torch.library.register_fake("smir::step", _fake_step, lib=LIBRARY)
