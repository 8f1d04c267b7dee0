"""Which form a call takes: the one that was asked for, or the cheapest legal one at its sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from smir.calls.binding import Bound
from smir.compilation import DIRECT, Compilation
from smir.errors import FormError
from smir.ir.convolution import CONVOLUTION
from smir.ir.sizes import CU_SEQLENS, TIME_NAME
from smir.sampling import dimension_names

if TYPE_CHECKING:
    from smir.passes.analysis.cost import Cost
    from smir.passes.analysis.select_form import Machine

# Rows for which a call's form is chosen, whatever its batch: a row's result must not depend on what else is in it.
NOMINAL_BATCH = 4
# Sizes for predictions that are made before any array is seen.
REFERENCE_TOKENS, REFERENCE_SIZE = 4096, 64


@dataclass(frozen=True)
class Asked:
    """What was asked for beside the spec; None is what every call decides."""

    form: str | None = None
    backend: str | None = None
    chunk: int | None = None


class FormChoice:
    """The costs of one mixer's forms and the choices by them; what was once computed is kept."""

    def __init__(self, done: Compilation, form: str | None) -> None:
        self.done, self.form = done, form
        self._choices: dict[tuple[Any, ...], str] = {}
        self._trained: dict[frozenset[str], dict[str, Cost]] = {}

    def of_call(self, bound: Bound, machine: "Machine") -> str:
        """Of a call with these arguments. Raises FormError for packed sequences that the form asked for can't take."""
        sizes = {name: size for name, size in bound.sizes.items() if name != TIME_NAME}
        costs = self.costs_of(bound.recorded)
        if CU_SEQLENS in bound.arrays:
            costs = self._packed_costs(bound.recorded, costs)
        return self.form or self._cheapest(costs, machine, bound.tokens, NOMINAL_BATCH * bound.heads, sizes)

    def at(self, machine: "Machine", T: int, sequences: int, sizes: Mapping[str, int]) -> str:
        """Of a call of these sizes that records nothing."""
        return self.form or self._cheapest(self._costs, machine, T, sequences, sizes)

    def with_program(self, machine: "Machine") -> str:
        """The form asked for, or at reference sizes the cheapest one that has kernels of its own."""
        return self.form or self._cheapest(self._program_costs, machine, REFERENCE_TOKENS, 1, {})

    def costs_of(self, wanted: frozenset[str]) -> "dict[str, Cost]":
        """Of every form: of a call, and where gradients are `wanted`, of its forward and backward pass."""
        if not wanted:
            return self._costs
        if wanted not in self._trained:
            from smir.calls.form_costs import training_costs

            self._trained[wanted] = training_costs(self.done, wanted)
        return self._trained[wanted]

    @property
    def reference_sizes(self) -> dict[str, int]:
        """A size for every dimension name, for predictions that are made before any array is seen."""
        return dict.fromkeys(dimension_names(self.done.spec), REFERENCE_SIZE)

    @cached_property
    def _costs(self) -> "dict[str, Cost]":
        from smir.calls.form_costs import form_costs

        return form_costs(self.done)

    @cached_property
    def _program_costs(self) -> "dict[str, Cost]":
        return self._with_kernels(self._costs)

    def _packed_costs(self, wanted: frozenset[str], costs: "Mapping[str, Cost]") -> "dict[str, Cost]":
        """Those of the forms that take packed sequences on a GPU: a convolution would run over their borders."""
        if self.form == CONVOLUTION:
            raise FormError(
                f"the convolution form of {self.done.spec.name} takes no packed sequences on a GPU: its transforms go "
                "over the borders",
                hint=f"forms that do: {', '.join(self.done.plans)}",
            )
        key = wanted | {CU_SEQLENS}
        if key not in self._trained:
            self._trained[key] = self._with_kernels(costs)
        return self._trained[key]

    def _with_kernels(self, costs: "Mapping[str, Cost]") -> "dict[str, Cost]":
        """Those of the forms that have kernels of their own."""
        return {form: cost for form, cost in costs.items() if form in self.done.plans}

    def _cheapest(
        self, costs: "Mapping[str, Cost]", machine: "Machine", T: int, sequences: int, sizes: Mapping[str, int]
    ) -> str:
        """The form with the smallest of these costs, which are kept as long as this object."""
        if not costs:
            return DIRECT
        from smir.passes.analysis.select_form import select_form

        known = {**self.reference_sizes, **sizes}
        key = (id(costs), machine.name, T, sequences, *sorted(known.items()))
        if key not in self._choices:
            self._choices[key] = select_form(costs, machine, T, known, sequences)
        return self._choices[key]
