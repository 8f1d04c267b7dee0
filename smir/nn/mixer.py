"""A layer around any mixer: the projections and gates that its spec's declarations need, and the way back."""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smir.compiled import CompiledMixer, compile_source
from smir.errors import ArgumentError, IRError
from smir.ir.head_groups import group_names, heads_of, usual_group
from smir.ir.interval import Interval
from smir.ir.mixer import INPUT
from smir.ir.sizes import TIME_NAME
from smir.nn.activations import before, into, middle, near
from smir.nn.roles import Role, find_roles
from smir.running import calls_by_handle
from smir.sampling import check_sizes, dimension_names
from smir.source import Source
from smir.specs import find_spec

# Initial decays forget between 1/32 and 1/512 a step, evenly in the logarithm over heads and channels.
FORGETS = (1 / 32, 1 / 512)
NORM_EPS, UNIT_EPS = 1e-5, 1e-6


class Mixer(nn.Module):  # type: ignore[misc]
    """A sequence mixer as a layer, `[B, T, d_model] -> [B, T, d_model]`, for any spec.

    `spec` is what `smir.compile` takes. `sizes` gives dimension names their size per head, `d_model // heads` where it
    says nothing, and names of head groups theirs, 2 where the heads pair. `form` and `chunk` are those of
    `smir.compile`. Raises SmirError for everything that doesn't fit.

    Inputs are projections of x: vectors without bias; scalars, and all with a promised range, with a bias and an
    activation onto the range. Vectors that the transition erases with have norm one (Schlag et al., 2021); vectors
    whose sums the mixer divides by pass through elu + 1 (Katharopoulos et al., 2020). Parameters of the spec are learnt
    in their ranges. What comes out is normalised per head (RMSNorm, Zhang and Sennrich, 2019) and projected.

    Initialisation: projections keep the variance (LeCun et al., 1998); decays forget between 1/32 and 1/512 a step,
    spread over heads (Sun et al., 2023); other gates start in the middle of their range.
    """

    def __init__(
        self,
        spec: str | Path,
        d_model: int,
        heads: int,
        *,
        sizes: Mapping[str, int] | None = None,
        form: str | None = None,
        chunk: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        _check_widths(d_model, heads)
        self.d_model, self.heads = d_model, heads
        # layers of one spec share it
        self.compiled = _compiled(find_spec(spec), form, chunk)
        self.sizes = _all_sizes(self.compiled, d_model // heads, heads, sizes or {})
        self.roles, outputs = self._find_roles()
        self._vectors = tuple(r for r in self.roles if r.declaration.kind == INPUT and not r.gate)
        self._gates = tuple(r for r in self.roles if r.declaration.kind == INPUT and r.gate)
        place: dict[str, Any] = {"dtype": dtype, "device": device}
        widths = [sum(self._width(r) for r in group) for group in (self._vectors, self._gates)]
        self.vectors = nn.Linear(d_model, widths[0], bias=False, **place) if widths[0] else None
        self.gates = nn.Linear(d_model, widths[1], **place) if widths[1] else None
        for role in self._params:
            self.register_parameter(_attribute(role), nn.Parameter(torch.empty(heads, *role.shape, **place)))
        self.norm = nn.RMSNorm(outputs, eps=NORM_EPS, **place) if outputs > 1 else None
        self.out = nn.Linear(heads * outputs, d_model, bias=False, **place)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        for linear in (self.vectors, self.gates, self.out):
            if linear is not None:
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        if self.norm is not None:
            self.norm.reset_parameters()
        with torch.no_grad():
            if self.gates is not None:
                starts = [_start(r, self._heads_of(r)).flatten() for r in self._gates]
                self.gates.bias.copy_(torch.cat(starts))
            for role in self._params:
                getattr(self, _attribute(role)).copy_(_start(role, self.heads))

    def arguments(self, x: Tensor) -> dict[str, Tensor]:
        """What the mixer is called with for x `[B, T, d_model]`: inputs `[B, T, heads, dims...]`, those of which a head
        serves several with so many fewer, and parameters."""
        if x.ndim != 3 or x.shape[-1] != self.d_model:
            raise ArgumentError(f"x has shape {tuple(x.shape)}, expected [B, T, {self.d_model}]",
                                hint="the last axis is d_model; add a batch axis with x[None]")  # fmt: skip
        found: dict[str, Tensor] = {}
        for linear, group in ((self.vectors, self._vectors), (self.gates, self._gates)):
            if linear is not None:
                parts = linear(x).split([self._width(r) for r in group], dim=-1)
                for role, part in zip(group, parts, strict=True):
                    part = part.unflatten(-1, (self._heads_of(role), *(role.shape or (1,))))
                    found[role.name] = _vector(role, part) if linear is self.vectors else self._gate(role, part)
        for role in self._params:
            found[role.name] = self._in_range(role, getattr(self, _attribute(role)))
        return found

    def forward(
        self,
        x: Tensor,
        state: Mapping[str, Tensor] | None = None,
        return_state: bool = False,
        cu_seqlens: Tensor | None = None,
    ) -> Any:
        """y `[B, T, d_model]`, with `return_state` also the final states by name, `[B, heads, dims...]`.

        `cu_seqlens` `[N + 1]`: x is one row `[1, T, d_model]` of N sequences; states are then `[N, heads, dims...]`.
        """
        found = self.compiled(**self.arguments(x), state=state, return_state=return_state, cu_seqlens=cu_seqlens)
        if not return_state:
            return self._outward(found)
        y, final = found
        return self._outward(y), final

    def step(
        self, x: Tensor, state: Mapping[str, Tensor] | None = None, *, inplace: bool = False, several: bool = False
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """y `[B, d_model]` of the next token x `[B, d_model]`, and the state after it: decoding.

        `state`, `inplace` and `several` (x and y are `[B, n, d_model]` then) are those of the mixer's own `step`; in
        place a mixer that keeps tokens begins with `layer.compiled.new_state(..)`.
        """
        if not several and (x.ndim != 2 or x.shape[-1] != self.d_model):
            raise ArgumentError(f"x has shape {tuple(x.shape)}, expected [B, {self.d_model}]",
                                hint="a step takes one token; several=True takes [B, n, d_model]")  # fmt: skip
        given = self.arguments(x if several else x[:, None])
        y, after = self.compiled.step(**given, state=state, inplace=inplace, several=True)
        y = self._outward(y)
        return y if several else y[:, 0], after

    def extra_repr(self) -> str:
        """The spec's name and sizes, and what was asked for."""
        sizes = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        asked = "".join(f", {name}={value}" for name, value in self.compiled.asked.items() if value is not None)
        return f"{self.compiled.spec.name}, d_model={self.d_model}, heads={self.heads}, {sizes}{asked}"

    def _outward(self, y: Tensor) -> Tensor:
        """What the mixer gave, `[B, T, heads, dims...]`, as `[B, T, d_model]`."""
        y = y.flatten(3) if y.ndim > 3 else y.unsqueeze(-1)
        y = y.to(self.out.weight.dtype)
        return self.out((self.norm(y) if self.norm is not None else y).flatten(2))

    def _gate(self, role: Role, part: Tensor) -> Tensor:
        """A projection as the spec promises it, `[B, T, heads, *shape]`."""
        return self._in_range(role, part if role.shape else part.squeeze(-1))

    def _in_range(self, role: Role, values: Tensor) -> Tensor:
        return into(values, Interval(*_ends(self.compiled.calls.handle, role.name)))

    def _heads_of(self, role: Role) -> int:
        """How many heads an input has."""
        return heads_of(role.declaration, self.heads, self.sizes)

    def _width(self, role: Role) -> int:
        """How many numbers an input has per time step."""
        return self._heads_of(role) * role.size

    @property
    def _params(self) -> tuple[Role, ...]:
        return tuple(r for r in self.roles if r.declaration.kind != INPUT)

    def _find_roles(self) -> tuple[tuple[Role, ...], int]:
        """The roles, and the numbers that come out per head and time step."""
        done = self.compiled.compilation
        try:
            return find_roles(done, self.sizes), math.prod(d.size(self.sizes) for d in done.spec.output_dims)
        except IRError as error:
            raise ArgumentError(f"sizes {self.sizes} don't suit {done.spec.name}: {error.message}",
                                hint="give other sizes: `sizes={'K': 32}`") from error  # fmt: skip


@lru_cache(maxsize=256)
def _compiled(source: Source, form: str | None, chunk: int | None) -> CompiledMixer:
    return compile_source(source, form=form, chunk=chunk)


def _check_widths(d_model: int, heads: int) -> None:
    for name, value in (("d_model", d_model), ("heads", heads)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} is a positive whole number, not {value!r}", hint="for example 256 and 4")
    if heads > d_model:
        raise ArgumentError(f"{heads} heads don't fit into d_model={d_model}", hint="a head needs at least one channel")


def _all_sizes(mixer: CompiledMixer, default: int, heads: int, given: Mapping[str, int]) -> dict[str, int]:
    fixed_length = [d for d in mixer.spec.declarations if any(TIME_NAME in dim.names for dim in d.dims)]
    if fixed_length:
        raise ArgumentError(f"{fixed_length[0].name} is as large as the sequence is long, which a layer can't know",
                            hint="write a module around `smir.compile` for one length")  # fmt: skip
    check_sizes(mixer.spec, given)
    groups = dict.fromkeys(group_names(mixer.spec), usual_group(heads))
    return {**dict.fromkeys(dimension_names(mixer.spec), default), **groups, **given}


def _attribute(role: Role) -> str:
    """The parameter's name in the state dictionary; the prefix keeps it apart from the module's own."""
    return f"param_{role.name}"


def _start(role: Role, heads: int) -> Tensor:
    """The initial bias of a gate, or the initial raw value of a parameter, `[heads, *shape]`."""
    promised, shape = role.declaration.range, (heads, *role.shape)
    if role.kept is not None:
        first, last = (math.log(f) for f in FORGETS)
        forgets = torch.linspace(first, last, math.prod(shape), dtype=torch.float64).exp().view(shape)
        return before(near(role.kept, forgets, promised), promised)
    if not role.gate or (role.declaration.kind != INPUT and math.isinf(promised.lo) and math.isinf(promised.hi)):
        return _unbounded(role, heads)
    return before(torch.full(shape, middle(promised), dtype=torch.float64), promised)


def _unbounded(role: Role, heads: int) -> Tensor:
    """A parameter that may be anything: ones, as skip connections start, and matrices that keep the variance."""
    if len(role.shape) < 2:
        return torch.ones(heads, *role.shape, dtype=torch.float64)
    return torch.randn(heads, *role.shape, dtype=torch.float64) * role.shape[-1] ** -0.5


def _vector(role: Role, part: Tensor) -> Tensor:
    """A projection without a promised range, `[B, T, heads, *shape]`."""
    if role.positive:
        part = F.elu(part) + 1
    return F.normalize(part, dim=-1, eps=UNIT_EPS) if role.unit else part


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _ends(handle: str, name: str) -> tuple[float, float, bool, bool]:
    """The promised range of a declaration. Traced code may take numbers that it finds in objects for variables."""
    promised = calls_by_handle(handle).spec.declaration(name).range
    return promised.lo, promised.hi, promised.lo_open, promised.hi_open
