"""The passes of a traced call as operators of torch: `smir::forward` and `smir::backward`, in canonical layout.

They are what autograd records of a call (`autograd.py`) while something traces it. Like `smir::mix` they carry a text
that says everything about them, and run the plans that an eager call runs. What the forward pass keeps on a GPU is
among its results, so that whoever partitions the graph sees it. What numpy keeps has shapes that depend on the length
in other ways than a symbol can say: there the backward pass starts from the arguments.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from smir.calls.array_kinds import is_symbolic, signature
from smir.calls.binding import Bound, Fit, fit_call
from smir.calls.execution import Arrays, Backend, Runner, find_backend, forward_runner
from smir.calls.form_choice import REFERENCE_TOKENS
from smir.calls.prepared import LIMIT
from smir.errors import GradientError
from smir.ir.dims import Dim
from smir.ir.kernel import Buffer
from smir.ir.mixer import State
from smir.ir.tile import CHUNK, ONE
from smir.ir.tile_program import OUTPUT, STEP
from smir.torch_side.autograd import Call, Likes, recorded_call
from smir.torch_side.operators import LIBRARY, calls_of, described, in_own_memory

if TYPE_CHECKING:
    from smir.running import Calls
    from smir.tuning.settings import Setting

Tensor = Any
Tensors = Sequence[Tensor]
KEEPING = ("triton",)


@dataclass(frozen=True)
class Pass:
    """Which pass an operator runs, beside its tensors.

    `arrays` and `states` name a forward pass' tensors, `wanted` those whose gradients are asked for, `kept` what it
    keeps; `setting` has measured launch options. A backward pass has the tensors `given`, then those that were kept, by
    its own names `kept`, and gives `gradients`: name, number of axes and type.
    """

    mixer: str
    form: str
    backend: str
    chunk: int
    setting: str
    arrays: tuple[str, ...]
    states: tuple[str, ...]
    wanted: tuple[str, ...]
    kept: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    gradients: tuple[tuple[str, int, str], ...] = ()

    @property
    def text(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(text: str) -> "Pass":
        known: dict[str, Any] = json.loads(text)
        known["gradients"] = [tuple(g) for g in known["gradients"]]
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return Pass(**known)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors."""
        return (*self.given, *self.kept) if self.given else (*self.arrays, *self.states)

    @property
    def final(self) -> tuple[State, ...]:
        """The final states that a forward pass gives."""
        scaled = calls_of(self.mixer).scaled_states
        return tuple(scaled.recurrence.state(name) for name in scaled.carried_names)

    def split(self, tensors: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A forward pass' arrays and initial states by name."""
        arrays = dict(zip(self.arrays, tensors, strict=False))
        return arrays, dict(zip(self.states, tensors[len(arrays) :], strict=True))

    def fit(self, arrays: Arrays) -> Fit:
        return fit_call(calls_of(self.mixer).spec, dict(arrays), {})

    @cached_property
    def runs_on(self) -> Backend:
        """The backend, with the options that were measured."""
        backend = find_backend(self.backend)
        if not self.setting:
            return backend
        from smir.tuning.settings import Setting

        return backend.with_setting(Setting.from_json(json.loads(self.setting)))

    def call(self, device: str) -> Call:
        """The recorded call that both passes belong to."""
        made = recorded_call(calls_of(self.mixer).done, self.runs_on, self.form, self.chunk, device,
                             self.arrays, self.states, frozenset(self.wanted))  # fmt: skip
        return made if self.backend in KEEPING else made.keeping_nothing()


# ---- calls ------------------------------------------------------------------------------------------------------


def settled(bound: Bound) -> Bound:
    """The call with numbers for its symbolic sizes, by which a form may be chosen: an unknown length is a long one."""
    tokens = REFERENCE_TOKENS if is_symbolic(bound.tokens) else bound.tokens
    sizes = {name: _hint(size) for name, size in bound.sizes.items()}
    return replace(bound, batch=_hint(bound.batch), heads=_hint(bound.heads), tokens=tokens, sizes=sizes)


def _hint(size: Any) -> int:
    """The size in the call that is being traced."""
    return int(size.node.hint) if is_symbolic(size) else size


def traced_runner(
    calls: "Calls", backend: str, form: str, bound: Bound, chunk: int, setting: "Setting | None"
) -> Runner:
    """Runs calls like this one as operators, recorded where autograd is recording."""
    known = Pass(
        mixer=described(calls),
        form=form,
        backend=backend,
        chunk=chunk,
        setting=json.dumps(setting.to_json()) if setting else "",
        arrays=tuple(bound.arrays),
        states=tuple(bound.states),
        wanted=tuple(sorted(bound.recorded)),
    )
    if not known.wanted:
        return _Forward(known)
    call = known.call(bound.device)
    parts = {f.name: getattr(call, f.name) for f in fields(call)}
    return _TracedCall(**parts, known=replace(known, kept=tuple(call.plan.kept)))


@dataclass(frozen=True)
class _Forward:
    """A call that nothing records."""

    known: Pass

    def __call__(self, arrays: Arrays, states: Arrays) -> tuple[Arrays, Arrays]:
        y, *final = torch.ops.smir.forward([*arrays.values(), *states.values()], self.known.text)
        return {OUTPUT: y}, {s.name: f for s, f in zip(self.known.final, final, strict=True)}


@dataclass(frozen=True, kw_only=True)
class _TracedCall(Call):
    """A recorded call whose passes are operators."""

    known: Pass

    def forward(self, tensors: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        found = torch.ops.smir.forward([tensors[name] for name in self.known.names], self.known.text)
        results = 1 + len(self.final)
        return found[:results], found[results:]

    def gradients(self, tensors: Mapping[str, Tensor], kept: Mapping[str, Tensor], likes: Likes) -> tuple[Tensor, ...]:
        types = tuple((name, len(shape), str(dtype).removeprefix("torch.")) for name, (shape, dtype) in likes.items())
        known = replace(self.known, given=tuple(tensors), kept=tuple(kept), gradients=types)
        shapes = [size for shape, _ in likes.values() for size in shape]
        return tuple(torch.ops.smir.backward([*tensors.values(), *kept.values()], shapes, known.text))

    def second(self, *_: Any) -> NoReturn:
        raise GradientError("a traced call has no second derivatives", hint="call the mixer outside of torch.compile")


# ---- operators --------------------------------------------------------------------------------------------------

# y, the final states, and what is kept.
LIBRARY.define("forward(Tensor[] tensors, str call) -> Tensor[]")
# Gradients in the `shapes` of their arguments, which stand one behind the other.
LIBRARY.define("backward(Tensor[] tensors, SymInt[] shapes, str call) -> Tensor[]")
# Passes that are ready for tensors of certain shapes, types and one device.
_READY: dict[tuple[Any, ...], Callable[[Tensors], Tensors]] = {}


def _run(
    tensors: Tensors, text: str, shapes: Sequence[int], make: Callable[..., Callable[[Tensors], Tensors]]
) -> list[Tensor]:
    """One pass, made ready if nothing like it has run."""
    key = (text, *shapes, *map(signature, tensors))
    with torch.no_grad():
        if key not in _READY:
            if len(_READY) >= LIMIT:
                _READY.clear()
            _READY[key] = make(Pass.of(text), tensors, shapes)
        return in_own_memory(_READY[key](tensors), tensors)


def _forward(tensors: Tensors, text: str) -> list[Tensor]:
    return _run(tensors, text, (), _ready_forward)


def _ready_forward(known: Pass, tensors: Tensors, shapes: Sequence[int]) -> Callable[[Tensors], Tensors]:
    arrays, states = known.split(tensors)
    fit, runner = known.fit(arrays), _runner(known, arrays, states)

    def run(tensors: Tensors) -> Tensors:
        results, final = runner(*known.split(tensors))
        states = fit.final_states({s.name: final[s.name] for s in known.final})
        return [fit.output(results[OUTPUT]), *states.values(), *(results[name] for name in known.kept)]

    return run


def _runner(known: Pass, arrays: Arrays, states: Arrays) -> Runner:
    """Of a forward pass, which keeps what its backward pass reads."""
    bound = Bound(**vars(known.fit(arrays)), arrays=dict(arrays), states=dict(states))
    if known.kept:
        return known.runs_on.prepare(known.call(bound.device).plan.forward, arrays, known.chunk)
    return forward_runner(calls_of(known.mixer).done, known.runs_on, known.form, bound, known.chunk)


def _fake_forward(tensors: Tensors, text: str) -> list[Tensor]:
    known = Pass.of(text)
    fit = known.fit(known.split(tensors)[0])
    lead = fit.batch, fit.tokens, fit.heads
    y = (*lead, *(d.size(fit.sizes) for d in calls_of(known.mixer).spec.output_dims))
    final = [(*lead[::2], *(d.size(fit.sizes) for d in state.dims)) for state in known.final]
    results = [tensors[0].new_empty(y, dtype=getattr(torch, fit.dtype))]
    results += [tensors[0].new_empty(shape, dtype=getattr(torch, fit.state_dtype)) for shape in final]
    return results + (_fake_kept(known, fit, tensors) if known.kept else [])


def _fake_kept(known: Pass, fit: Fit, tensors: Tensors) -> list[Tensor]:
    """What Triton kernels keep, `[B, H, chunks, rows, cols]`."""
    from smir.backends.triton_gpu.runtime import buffer_types

    plan = known.call(fit.device).plan.forward
    rows = 1 if known.form == STEP else known.chunk
    lead, sizes = (fit.batch, fit.heads, -(-fit.tokens // rows)), {CHUNK: rows, ONE: 1}
    types = buffer_types(plan, known.split(tensors)[0])

    def fake(b: Buffer) -> Tensor:
        shape = [sizes.get(axis) or Dim.parse(axis).size(fit.sizes) for axis in (b.rows, b.cols)]
        return tensors[0].new_empty((*lead, *shape), dtype=types[b.dtype])

    return [fake(plan.buffer(name)) for name in known.kept]


def _backward(tensors: Tensors, shapes: Sequence[int], text: str) -> list[Tensor]:
    return _run(tensors, text, shapes, _ready_backward)


def _ready_backward(known: Pass, tensors: Tensors, shapes: Sequence[int]) -> Callable[[Tensors], Tensors]:
    call = known.call(str(tensors[0].device))
    likes = {name: (shape, dtype) for name, shape, dtype in _likes(known, shapes)}

    def run(tensors: Tensors) -> Tensors:
        named = dict(zip(known.names, tensors, strict=True))
        return call.gradients({n: named[n] for n in known.given}, {n: named[n] for n in known.kept}, likes)

    return run


def _fake_backward(tensors: Tensors, shapes: Sequence[int], text: str) -> list[Tensor]:
    return [tensors[0].new_empty(shape, dtype=dtype) for _, shape, dtype in _likes(Pass.of(text), shapes)]


def _likes(known: Pass, shapes: Sequence[int]) -> Iterator[tuple[str, Sequence[int], Any]]:
    """Name, shape and type of every gradient."""
    rest = list(shapes)
    for name, axes, dtype in known.gradients:
        yield name, tuple(rest[:axes]), getattr(torch, dtype)
        del rest[:axes]


LIBRARY.impl("forward", _forward, "CompositeExplicitAutograd")
LIBRARY.impl("backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("smir::forward", _fake_forward, lib=LIBRARY)
torch.library.register_fake("smir::backward", _fake_backward, lib=LIBRARY)
