"""Stabilisation: states with unbounded exponential gates, read out as a ratio, made relative to a running maximum.

A state whose writes grow like e^i is kept as a mantissa and the log m of its scale, m[t] = max(l + m[t-1], i) where l
is the log of its decay; states with the same gates and decay share one. Where the output doesn't change with the scale
(or is bounded by other means), no exponential of a positive number is left. See `scaled` for the arithmetic.
"""

from collections.abc import Iterable
from dataclasses import replace

from smir.ir.dims import ONE, Dim
from smir.ir.expr import pointwise
from smir.ir.graph import Node, rebuild, substitute, walk
from smir.ir.mixer import Mixer, State
from smir.ir.operator import Obstacle
from smir.passes.expressions.broken_laws import BrokenLaw
from smir.passes.stabilisation.scaled import Arithmetic
from smir.passes.stabilisation.scales import LOWEST, Log, is_bounded, updates_now

SUFFIX = "_log"
Logs = dict[str, Log]


def stabilise(mixer: Mixer) -> Mixer | Obstacle:
    """The mixer with its unbounded exponentials rewritten; itself where it has none, an Obstacle where some would stay.

    States with `log` are mantissas then, and the states of their logs come last. `<name>_log` is the first one's.
    """
    gate = _unbounded_exp(mixer)
    if gate is None or mixer.masked:
        return mixer
    logs = _logs(mixer)
    if logs is None:
        return BrokenLaw("states whose scales depend on each other", gate, "not stabilised").obstacle(mixer)
    taken = {d.name for d in mixer.declarations} | {s.name for s in mixer.states}
    for name in (state + SUFFIX for state in logs):
        if name in taken:
            return BrokenLaw(f"the log of a state's scale would be called `{name}`, which is taken", gate,
                             "not stabilised").obstacle(mixer)  # fmt: skip
    arithmetic = Arithmetic(mixer, logs)
    updates = {s.name: arithmetic.update(s) for s in mixer.states}
    output = arithmetic.output(mixer)
    if arithmetic.unbounded:
        law = BrokenLaw("an exponential without an upper bound, on whose scale the output depends", gate,
                        "not stabilised: promise a range, or divide by a state with the same gate")  # fmt: skip
        return law.obstacle(mixer)
    return _rewritten(mixer, logs, updates, output)


def _unbounded_exp(mixer: Mixer) -> Node | None:
    """The first exponential of an update or of the output whose argument has no upper bound."""
    declared, now = {d.name: d.range for d in mixer.declarations}, updates_now(mixer)
    return next((n for n in mixer.nodes() if n.op == "exp" and not is_bounded(n.args[0], declared, now)), None)


def _logs(mixer: Mixer) -> Logs | None:
    """The states that need a log, by the log that they share.

    All states whose logs get the same update from the same log share it: starting from as few logs as possible, those
    whose updates differ are split, and logs grow along the axes that their updates need, until nothing changes. None:
    it never settles.
    """
    logs: Logs = {}
    # splitting, growing and joining in happen at most once for each state and axis
    for _ in range(4 * len(mixer.states) + 1):
        arithmetic = Arithmetic(mixer, logs)
        scales = {s.name: arithmetic.update(s)[1] for s in mixer.states}
        found = _grouped({name: scale for name, scale in scales.items() if scale is not None}, logs)
        if found == logs:
            return logs
        logs = found
    return None


def _grouped(scales: dict[str, Node], logs: Logs) -> Logs:
    """One log for the states that had the same one and whose scales come out the same."""
    groups: dict[tuple[Log | None, Node], list[str]] = {}
    for name, scale in scales.items():
        groups.setdefault((logs.get(name), scale), []).append(name)
    found: Logs = {}
    for (old, scale), names in groups.items():
        rows, cols = (_longer(a, b) for a, b in zip(scale.type.shape, (old.rows, old.cols) if old else (ONE, ONE),
                                                    strict=True))  # fmt: skip
        found |= dict.fromkeys(names, Log(names[0] + SUFFIX, rows, cols))
    return {name: found[name] for name in scales}


def _longer(a: Dim, b: Dim) -> Dim:
    return b if a == ONE else a


def _rewritten(mixer: Mixer, logs: Logs, updates: dict[str, tuple[Node, Node | None]], output: Node) -> Mixer:
    """The mixer of mantissas and logs. What the log's update is, others read as its value at t."""
    scales = {log: updates[name][1] for name, log in reversed(logs.items())}
    now = {scale: log.at(0) for log, scale in scales.items() if scale is not None}
    members = {log: [mixer.state(name) for name in logs if logs[name] == log] for log in scales}

    def known(node: Node) -> Node:
        return substitute(node, now)

    mantissas = [
        replace(s, update=known(updates[s.name][0]), log=logs[s.name].name if s.name in logs else None)
        for s in mixer.states
    ]
    new = [
        State(log.name, _dims(log), _initial(members[log]), _running(known(scale.args[0]), log),
              span=members[log][0].span)
        for log, scale in reversed(scales.items()) if scale is not None
    ]  # fmt: skip
    states, result = (*mantissas, *new), known(output)
    kept = set(walk([result, *(s.update for s in states)]))
    names = tuple((name, node) for name, node in mixer.names if node in kept)
    return replace(mixer, states=states, output=result, names=names)


def _running(largest: Node, log: Log) -> Node:
    """The log's update, a maximum over its previous value and others, in which those others are constants."""
    if largest.op == "state" and largest["name"] == log.name:
        return largest
    if not any(n.op == "state" and n["name"] == log.name for n in walk([largest])):
        return largest if largest.op in ("const", "stop") else pointwise("stop", largest)
    return rebuild(largest, (_running(a, log) for a in largest.args))


def _initial(members: Iterable[State]) -> float:
    """The log of nothing where all mantissas start at zero, else of 1."""
    return LOWEST if all(s.initial == 0 for s in members) else 0.0


def _dims(log: Log) -> tuple[Dim, ...]:
    if log.cols == ONE:
        return () if log.rows == ONE else (log.rows,)
    return log.rows, log.cols
