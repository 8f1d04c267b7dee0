"""Segments of a mixer that reads older inputs or states: what was before its first token comes from the call's state.

The mixer runs as a variant of itself whose delayed inputs are inputs: `x[t-n]` are the tokens `x[-n], .., x[T-1-n]` of
past and segment one behind the other. Slices and joins are differentiable, so gradients reach the pasts too.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smir.calls.array_kinds import Array, convert, device_of, dtype_of, kind_of, module_of
from smir.compilation import Compilation
from smir.compiler import compile_mixer
from smir.passes.segments.delays import lines_as_inputs
from smir.states.call_states import CallStates
from smir.states.packed_pasts import PackedRows

if TYPE_CHECKING:
    from smir.running import Calls

Arrays = dict[str, Array]


def segment_variant(done: Compilation) -> Compilation:
    """The mixer whose delayed inputs are inputs of their own."""
    assert done.equations is not None, "only step equations read delayed inputs"
    return compile_mixer(lines_as_inputs(done.equations))


def run_segment(
    variant: "Calls", entries: CallStates, given: Arrays, state: Arrays, cu_seqlens: Array = None
) -> tuple[Array, Arrays]:
    """y and the state after a segment, from the state before it; arguments and results as the caller has them.

    `given` are the arguments by name; `cu_seqlens`: segments of several sequences in one row, states `[N, ...]`. Raises
    ArgumentError for pasts that don't fit them.
    """
    own, pasts = entries.split(state)
    entries.check_pasts(given, own, pasts, None if cu_seqlens is None else len(cu_seqlens) - 1)
    older = older_states(entries, own, pasts)
    lines = [past for past in entries.pasts if past.is_input]
    if cu_seqlens is not None:
        rows = PackedRows(cu_seqlens, given[entries.spec.inputs[0].name].shape[1])
        shifted = {p.line(age): rows.delayed(given[p.of], pasts.get(p.name), age, len(p.ages))
                   for p in lines for age in p.ages}  # fmt: skip
        y, final = variant((), {**given, **shifted}, {**own, **older}, True, cu_seqlens)
        tokens = {p.of: rows.last(given[p.of], pasts.get(p.name), len(p.ages)) for p in lines}
        return y, gathered(entries, final, tokens)
    wide = {p.of: with_past(given[p.of], pasts.get(p.name), len(p.ages)) for p in lines}
    shifted = {p.line(age): delayed(wide[p.of], age, len(p.ages)) for p in lines for age in p.ages}
    y, final = variant((), {**given, **shifted}, {**own, **older}, True)
    return y, gathered(entries, final, {p.of: wide[p.of][:, -len(p.ages) :] for p in lines})


def last_tokens(entries: CallStates, given: Arrays, cu_seqlens: Array = None) -> Arrays:
    """The pasts of inputs after a sequence, or several packed ones, that begin with these arguments."""
    lines = [past for past in entries.pasts if past.is_input]
    if cu_seqlens is not None:
        rows = PackedRows(cu_seqlens, given[entries.spec.inputs[0].name].shape[1])
        return {p.of: rows.last(given[p.of], None, len(p.ages)) for p in lines}
    return {p.of: with_past(given[p.of][:, -len(p.ages) :], None, len(p.ages))[:, -len(p.ages) :] for p in lines}


def older_states(entries: CallStates, own: Mapping[str, Array], pasts: Mapping[str, Array]) -> Arrays:
    """The older values of states by the names that the variant has for them; a state alone was always like that."""
    found: Arrays = {}
    for past in (p for p in entries.pasts if not p.is_input):
        for age in past.ages:
            if past.name in pasts:
                found[past.line(age)] = pasts[past.name][:, past.index(age)]
            elif past.of in own:
                found[past.line(age)] = own[past.of]
    return found


def gathered(entries: CallStates, final: Mapping[str, Array], tokens: Mapping[str, Array]) -> Arrays:
    """The state after a segment: final states, with those of delay lines as pasts, and the last `tokens` of inputs."""
    inner = {p.line(age) for p in entries.pasts for age in p.ages}
    found = {name: a for name, a in final.items() if name not in inner}
    for past in entries.pasts:
        if past.is_input:
            found[past.name] = tokens_outermost(tokens[past.of])
        else:
            values = [final[past.line(age)] for age in reversed(past.ages)]
            found[past.name] = tokens_outermost(module_of(values[0]).stack(values, 1))
    return found


def with_past(x: Array, past: Array | None, count: int) -> Array:
    """The last `count` tokens before a segment (zero without a past), and its own."""
    library = module_of(x)
    if past is None:
        before = library.concatenate([library.zeros_like(x[:, :1])] * count, 1)
    else:
        before = convert(past, str(kind_of(x)), dtype_of(x), device_of(x))
    return library.concatenate([before, x], 1)


def delayed(wide: Array, age: int, count: int) -> Array:
    """Of past and segment, each token's value `age` tokens before it."""
    tokens = wide.shape[1] - count
    return wide[:, count - age : count - age + tokens]


def tokens_outermost(tokens: Array) -> Array:
    """A copy of `[B, n, ...]` with the tokens outermost in memory, so that each is one block for a kernel."""
    library = module_of(tokens)
    if kind_of(tokens) == "numpy":
        return library.swapaxes(library.array(library.swapaxes(tokens, 0, 1), order="C"), 0, 1)
    return tokens.transpose(0, 1).clone(memory_format=library.contiguous_format).transpose(0, 1)
