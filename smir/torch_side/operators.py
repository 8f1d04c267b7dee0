"""Compiled mixers as an operator of torch, for whatever traces calls before it runs them.

`torch.compile`, `torch.export`, fake tensors and `make_fx` see one operator for a call, `smir::mix`. Its arguments say
everything about it, the mixer as IR text: a graph can be kept, and loaded by a process that has imported this module.
Where autograd looks on, the call falls into its forward and its backward pass (`smir/torch_side/passes.py`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from smir.calls.array_kinds import TORCH, filled, has_modes
from smir.calls.autocast import in_autocast_type, vectors
from smir.calls.axis_order import input_ranks
from smir.calls.binding import match_arguments
from smir.calls.form_choice import Asked
from smir.compiler import compile_mixer
from smir.errors import ArgumentError
from smir.ir.mixer import Mixer
from smir.ir.parser import parse_ir
from smir.ir.printer import print_ir

if TYPE_CHECKING:
    from smir.running import Calls

Tensor = Any
Tensors = Sequence[Tensor]
LIBRARY = torch.library.Library("smir", "DEF")
_MIXERS: dict[str, "Calls"] = {}


# ---- calls ------------------------------------------------------------------------------------------------------


def traced_call(
    calls: "Calls",
    args: tuple[Any, ...],
    named: dict[str, Any],
    state: Mapping[str, Any] | None,
    return_state: bool,
    cu_seqlens: Any,
    check_ranges: bool,
) -> Any:
    """A call as one operator. Raises what a call raises about names, and ArgumentError for `check_ranges`."""
    if check_ranges:
        raise ArgumentError("check_ranges=True in a call that is traced: there are no values to look at",
                            hint="check them in an eager call")  # fmt: skip
    state = {} if state is None else state
    text, order, cast, entries = _settled(calls.handle, len(args), tuple(named), tuple(state))
    values = (*args, *named.values(), *state.values())
    device = next(a.device for a in values if isinstance(a, torch.Tensor))
    tensors = [as_tensor(values[i], device) for i in order]
    if torch.is_autocast_enabled(device.type):
        tensors = [in_autocast_type(t) if i in cast else t for i, t in enumerate(tensors)]
    y, *final = torch.ops.smir.mix(tensors, cu_seqlens, list(state), return_state, text)
    return (y, dict(zip(entries, final, strict=True))) if return_state else y


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _settled(
    handle: str, positional: int, named: tuple[str, ...], state: tuple[str, ...]
) -> tuple[str, tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
    """What a call's names settle: the mixer's text, the numbers of the operator's tensors among all values given, which
    of them are cast under autocast, and the names of the final states."""
    from smir.running import calls_by_handle

    calls = calls_by_handle(handle)
    count = positional + len(named)
    given = match_arguments(calls.spec, range(positional), dict(zip(named, range(positional, count), strict=True)))
    calls.call_states.match(dict.fromkeys(state) or None)
    order = (*given.values(), *range(count, count + len(state)))
    cast = tuple(i for i, name in enumerate(given) if name in vectors(calls.spec))
    return described(calls), order, cast, calls.call_states.names


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def ranks_of(handle: str, positional: int, named: tuple[str, ...]) -> tuple[int, ...]:
    """The ranks of a call's inputs that have heads: see `input_ranks`."""
    from smir.running import calls_by_handle

    return input_ranks(calls_by_handle(handle).spec, positional, named)


def as_tensor(value: Any, device: Any) -> Tensor:
    """A number as a tensor, as a call makes it."""
    return filled((), value, TORCH, "float32", device) if isinstance(value, (int, float)) else value


# ---- mixers as text ---------------------------------------------------------------------------------------------


def described(calls: "Calls") -> str:
    """A mixer as text, from which any process can compile it again."""
    text = json.dumps({"mixer": print_ir(calls.spec), **asdict(calls.asked)})
    _MIXERS.setdefault(text, calls)
    return text


def calls_of(text: str) -> "Calls":
    """Those of the mixer that a text describes."""
    if text not in _MIXERS:
        from smir.running import Calls

        known = json.loads(text)
        spec = parse_ir(known.pop("mixer"))
        assert isinstance(spec, Mixer), "an operator's text describes a mixer"
        _MIXERS[text] = Calls(compile_mixer(spec), Asked(**known))
    return _MIXERS[text]


# ---- the operator -----------------------------------------------------------------------------------------------

# The arguments in the order of declaration, then the entries of `state` that are named; y, and with `return_state` the
# final states.
LIBRARY.define("mix(Tensor[] tensors, Tensor? cu_seqlens, str[] state, bool return_state, str mixer) -> Tensor[]")


def run_call(
    tensors: Tensors, cu_seqlens: Tensor | None, state: Sequence[str], return_state: bool, text: str
) -> list[Tensor]:
    """The call itself; its own passes are operators where something traces them."""
    calls = calls_of(text)
    names = [d.name for d in calls.spec.declarations]
    given = dict(zip(names, tensors, strict=False))
    start = dict(zip(state, tensors[len(names) :], strict=True))
    found = calls.eager(given, start, cu_seqlens, return_state, False)
    return [found[0], *found[1].values()] if return_state else [found]


def _mix(tensors: Tensors, *rest: Any) -> list[Tensor]:
    with torch.no_grad():
        return in_own_memory(run_call([t.detach() for t in tensors], *rest), tensors)


def in_own_memory(results: Tensors, arguments: Tensors) -> list[Tensor]:
    """The results as those of an operator have to be: contiguous, and none in another's memory or an argument's."""
    taken, found = {_memory(a) for a in arguments}, []
    for result in results:
        # through one axis: where an axis has one element, contiguous memory may have any stride
        own = result.contiguous().view(-1).view(result.shape)
        own = own.clone() if _memory(own) in taken else own
        taken.add(_memory(own))
        found.append(own)
    return found


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _fake_mix(
    tensors: Tensors, cu_seqlens: Tensor | None, state: Sequence[str], return_state: bool, text: str
) -> list[Tensor]:
    """Shapes and types are what the call itself gives for tensors without values."""
    with torch.no_grad():
        if cu_seqlens is None:
            return [f.new_empty(f.shape) for f in run_call(tensors, None, state, return_state, text)]
        # as for one sequence, but with states for each
        y, *final = run_call(tensors[: len(tensors) - len(state)], None, (), return_state, text)
        return [y.new_empty(y.shape), *(f.new_empty((cu_seqlens.shape[0] - 1, *f.shape[1:])) for f in final)]


def _recorded_mix(keys: Any, tensors: Tensors, cu_seqlens: Tensor | None, *rest: Any) -> list[Tensor]:
    """Where autograd looks on, a call is recorded as an eager one is."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        if cu_seqlens is None or not has_modes():
            return run_call(tensors, cu_seqlens, *rest)
        from smir.torch_side.packed import PackedMixing

        return list(PackedMixing.apply(cu_seqlens, rest, *tensors))
    with torch._C._AutoDispatchBelowAutograd():
        below = keys & torch._C._after_autograd_keyset
        return list(torch.ops.smir.mix.default.redispatch(below, tensors, cu_seqlens, *rest))


LIBRARY.impl("mix", _mix, "CompositeExplicitAutograd")
LIBRARY.impl("mix", _recorded_mix, "Autograd", with_keyset=True)
torch.library.register_fake("smir::mix", _fake_mix, lib=LIBRARY)
