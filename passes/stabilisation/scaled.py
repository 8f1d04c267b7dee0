"""Scaled arithmetic: every value is a core times e^scale, so that no exponential of an unbounded number is ever taken.

`exp(x)` is the core 1 with the scale x; products add scales and quotients subtract them; sums, choices and comparisons
go to the largest scale of their arguments, by which all cores are multiplied with e^(own - largest) <= 1. A state with
a log is read as its mantissa with that log as the scale. Evaluating a state's update this way gives the mantissa's
update and, as the scale of the result, the update of the log.

The value doesn't depend on which largest scale is taken out of it, so no derivative does either: it is marked `stop`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from smir.ir.dims import ONE
from smir.ir.expr import matmul, pointwise, rotate, sum_over, transpose
from smir.ir.graph import Node, rebuild
from smir.ir.mixer import Mixer, State, matrix_shape
from smir.passes.analysis.ranges import node_ranges
from smir.passes.expressions.algebra import UNITY, ZERO, expand, inverse, is_const, negated, total
from smir.passes.expressions.decay_logs import NON_NEGATIVE, log_of
from smir.passes.stabilisation.scales import Log, Scale, Scaled, Scales, times


class Arithmetic(Scales):
    """Evaluates the expressions of one mixer whose states have the given `logs` by name.

    `unbounded` collects the values that had to be taken as they are although their scale isn't bounded.
    """

    def __init__(self, mixer: Mixer, logs: dict[str, Log]) -> None:
        super().__init__(mixer, logs)
        self.unbounded: list[Node] = []
        self.own = ""
        self.memo: dict[Node, Scaled] = {}

    def update(self, state: State) -> tuple[Node, Node | None]:
        """The mantissa's update in the state's shape, and the scale of the result: the log's. None: it has no scale."""
        self.own, self.memo = state.name, {}
        value = self.value(state.update)
        shape = matrix_shape(state.dims)
        if not value.scale.terms:
            return expand(value.core, *shape), None
        scale = value.scale.terms[0][0]
        if value.scale.terms != ((scale, 1.0),) or scale.op != "stop":
            scale = self.join([value], forced=True)
        return expand(self.aligned(value, scale), *shape), scale

    def output(self, mixer: Mixer) -> Node:
        """The output at its own scale."""
        self.own, self.memo = "", {}
        return expand(self.plain(mixer.output), *matrix_shape(mixer.output_dims))

    def value(self, node: Node) -> Scaled:
        """The value of a node, as a core and a scale."""
        if node not in self.memo:
            rule = _RULES.get(node.op, Arithmetic._as_it_is)
            self.memo[node] = rule(self, node)
        return self.memo[node]

    def values(self, node: Node) -> list[Scaled]:
        return [self.value(a) for a in node.args]

    def plain(self, node: Node) -> Node:
        """The value itself."""
        value = self.value(node)
        if not value.scale.terms:
            return value.core
        exponent = self.exponent(value.scale)
        if not self.bounded(exponent):
            self.unbounded.append(node)
        return times(value.core, pointwise("exp", exponent))

    # ---- rules --------------------------------------------------------------------------------------------------

    def _as_it_is(self, node: Node) -> Scaled:
        """No law for scales: of the arguments' own values."""
        args = [expand(self.plain(a), *a.type.shape) for a in node.args]
        return Scaled(rebuild(node, args))

    def _state(self, node: Node) -> Scaled:
        name, offset = node["name"], node["offset"]
        scale = Scale(((self.logs[name].at(offset), 1.0),)) if name in self.logs else Scale()
        return Scaled(node, scale, carried=name == self.own and offset != 0)

    def _exp(self, node: Node) -> Scaled:
        exponent = self.plain(node.args[0])
        if self.bounded(exponent):
            return Scaled(pointwise("exp", exponent))
        return Scaled(UNITY, Scale.of(exponent))

    def _log(self, node: Node) -> Scaled:
        (value,) = self.values(node)
        logarithm = pointwise("log", value.core)
        return Scaled(pointwise("add", logarithm, self.exponent(value.scale)) if value.scale.terms else logarithm)

    def _mul(self, node: Node) -> Scaled:
        a, b = self.values(node)
        if b.carried:
            a, b = b, a
        if a.carried and not b.carried:
            return self._decayed(a, b)
        if not (a.scale.terms or b.scale.terms):
            return self._unscaled(node)
        return Scaled(times(a.core, b.core), a.scale.plus(b.scale))

    def _div(self, node: Node) -> Scaled:
        a, b = self.values(node)
        if a.carried and a.scale.terms and not b.scale.terms:
            return self._decayed(a, Scaled(inverse(b.core)))
        if not (a.scale.terms or b.scale.terms):
            return self._unscaled(node)
        scale, above = a.scale.plus(b.scale, -1.0), a.core
        exponent = self.exponent(scale)
        if scale.terms and self.bounded(exponent):
            # the quotient comes last: where it is a result, its gradient reads the result
            scale, above = Scale(), times(above, pointwise("exp", exponent))
        return Scaled(above if is_const(b.core, 1.0) else pointwise("div", above, b.core), scale)

    def _decayed(self, carried: Scaled, factor: Scaled) -> Scaled:
        """The previous value times a decay, whose log goes to the scale where it fits the state's log."""
        log, core = self.logs.get(self.own), factor.core
        scale = carried.scale.plus(factor.scale)
        if log is None or is_const(core, 1.0) or not (log.covers(core) and self.range(core).within(NON_NEGATIVE)):
            return Scaled(times(carried.core, core), scale, carried=True)
        ranges = node_ranges([core], self.declared)
        return Scaled(carried.core, scale.plus(Scale.of(log_of(core, ranges))), carried=True)

    def _sum_of(self, node: Node) -> Scaled:
        """Additions and subtractions below each other are one sum: one largest scale for all of it."""
        signed = list(_summands(node, False))
        values = [self.value(n) for n, _ in signed]
        if not any(v.scale.terms for v in values):
            return self._unscaled(node)
        cores, scale = self.together(values)
        parts = zip(cores, signed, strict=True)
        result = total(negated(c) if minus else c for c, (_, minus) in parts if not is_const(c, 0.0))
        return Scaled(result or ZERO, scale)

    def _unscaled(self, node: Node) -> Scaled:
        return Scaled(pointwise(node.op, *(v.core for v in self.values(node))))

    def _compared(self, node: Node) -> Scaled:
        cores, _ = self.together(self.values(node))
        return Scaled(pointwise(node.op, *cores))

    def _larger(self, node: Node) -> Scaled:
        cores, scale = self.together(self.values(node))
        return Scaled(pointwise(node.op, *cores), scale)

    def _where(self, node: Node) -> Scaled:
        condition = self.plain(node.args[0])
        cores, scale = self.together([self.value(a) for a in node.args[1:]])
        return Scaled(pointwise("where", condition, *cores), scale)

    def _same_scale(self, node: Node) -> Scaled:
        (value,) = self.values(node)
        return replace(value, core=pointwise(node.op, value.core))

    def _sqrt(self, node: Node) -> Scaled:
        (value,) = self.values(node)
        return Scaled(pointwise("sqrt", value.core), value.scale.times(0.5))

    def _pow(self, node: Node) -> Scaled:
        base, power = self.values(node)
        if not base.scale.terms or power.core.op != "const":
            return self._as_it_is(node)
        return Scaled(pointwise("pow", base.core, power.core), base.scale.times(power.core["value"]))

    def _transpose(self, node: Node) -> Scaled:
        (value,) = self.values(node)
        return replace(value, core=transpose(value.core), scale=value.scale.transposed)

    def _sum_over(self, node: Node) -> Scaled:
        (a,), (value,), axis = node.args, self.values(node), node["axis"]
        core, scale = expand(value.core, *a.type.shape), value.scale
        inner = scale.along(axis)
        if not inner.terms:
            return Scaled(sum_over(core, axis), scale)
        if inner.along(1 - axis).terms:
            return self._as_it_is(node)
        weights, largest = self.over_axis(inner, axis)
        return Scaled(sum_over(times(core, weights), axis), scale.plus(inner, -1.0).plus(largest))

    def _matmul(self, node: Node) -> Scaled:
        a, b = self.values(node)
        if node.args[0].type.cols == ONE:
            whole = all(v.core.type.shape == n.type.shape for v, n in zip((a, b), node.args, strict=True))
            return Scaled(matmul(a.core, b.core) if whole else times(a.core, b.core), a.scale.plus(b.scale))
        return self._contraction(node, a, b)

    def _contraction(self, node: Node, a: Scaled, b: Scaled) -> Scaled:
        """Inner products: what scales their terms becomes weights, relative to the largest."""
        left, right = (expand(v.core, *n.type.shape) for v, n in zip((a, b), node.args, strict=True))
        from_left, from_right = a.scale.along(1), b.scale.along(0)
        if from_left.along(0).terms or from_right.along(1).terms:
            return self._as_it_is(node)
        inner = from_left.transposed.plus(from_right)
        scale = a.scale.plus(from_left, -1.0).plus(b.scale).plus(from_right, -1.0)
        if inner.terms:
            weights, largest = self.over_axis(inner, 0)
            scale = scale.plus(largest)
            if left.type.rows == ONE != right.type.cols:
                left = expand(times(a.core, transpose(weights)), *left.type.shape)
            else:
                right = expand(times(b.core, weights), *right.type.shape)
        return Scaled(matmul(left, right), scale)

    def _rotate(self, node: Node) -> Scaled:
        theta, value = self.plain(node.args[0]), self.value(node.args[1])
        if value.scale.along(0).terms:
            return self._as_it_is(node)
        turned = rotate(theta, expand(value.core, *node.type.shape), node["inverse"])
        return replace(value, core=turned, carried=False)


def _summands(node: Node, minus: bool) -> Iterable[tuple[Node, bool]]:
    """The terms below additions and subtractions, with whether they are subtracted."""
    if node.op not in ("add", "sub"):
        yield node, minus
        return
    yield from _summands(node.args[0], minus)
    yield from _summands(node.args[1], minus != (node.op == "sub"))


_RULES: dict[str, Callable[[Arithmetic, Node], Scaled]] = {
    "state": Arithmetic._state,
    "exp": Arithmetic._exp,
    "log": Arithmetic._log,
    "mul": Arithmetic._mul,
    "div": Arithmetic._div,
    "add": Arithmetic._sum_of,
    "sub": Arithmetic._sum_of,
    "max": Arithmetic._larger,
    "min": Arithmetic._larger,
    "where": Arithmetic._where,
    **dict.fromkeys(("lt", "le", "eq", "ne"), Arithmetic._compared),
    **dict.fromkeys(("neg", "abs"), Arithmetic._same_scale),
    "sqrt": Arithmetic._sqrt,
    "pow": Arithmetic._pow,
    "transpose": Arithmetic._transpose,
    "sum": Arithmetic._sum_over,
    "matmul": Arithmetic._matmul,
    "rotate": Arithmetic._rotate,
}
