"""Random step equations of every transition class, as small records that print themselves as a spec's text."""

from dataclasses import dataclass

from hypothesis import strategies as st

# Decays by what they look like; `[@]` is the gate's time step.
SCALARS = ["", "0.9", "gamma", "exp(g[@])", "lam[@]", "keep[@]", "(1 - beta[@])", "exp(-dt[@] * rate)", "sg[@]", "-0.5"]
ROW_DECAYS = ["", "exp(gk[@])", "lamk[@]", "sigmoid(u)", "(1 - exp(gk[@]))", "sk[@]", "u"]
COL_DECAYS = ["", "exp(gv[@])", "lamv[@]"]
KEYS = ["k[t]", "p[t]", "l2norm(k[t])", "(u * p[t])", "(k[t] - k[t-1])", "(1 - exp(gk[t]))"]
VALUES = ["v[t]", "(beta[t] * v[t])", "tanh(x[t])", "(dt[t] * v[t])"]
SIZES = ["beta[t]", "0.3", "-0.2 * lam[t]"]
POSITIVE = ["exp({})", "(elu({}) + 1)", "sigmoid({})"]
AFTERWARDS = ["{}", "tanh({})", "({}) * silu(x[t])", "rmsnorm({})", "({}) * sigmoid(v[t]) + x[t]"]
AFTER, BEFORE, DECAYED = "after", "before", "decayed"


@dataclass(frozen=True)
class Erase:
    """`left (size (value - S' key))'`, or without a value; `decayed` says which state is read."""

    left: str
    key: str
    size: str
    value: str
    decayed: bool

    def text(self, s: "Matrix", decayed: str, before: str) -> str:
        read = s.read(decayed if self.decayed else before, self.key)
        value = f"({self.value} - {read})" if self.value else f"({read})"
        return s.outer(self.left, f"({self.size} * {value})")


@dataclass(frozen=True)
class Matrix:
    """One matrix state: decays, micro-steps of erases, plain writes, direction, orientation, read and normaliser."""

    backward: bool = False
    transposed: bool = False
    gate_ahead: bool = False
    scalar: str = ""
    rows: str = ""
    cols: str = ""
    steps: tuple[tuple[Erase, ...], ...] = ()
    writes: tuple[tuple[str, str], ...] = (("k[t]", "v[t]"),)
    moment: str = AFTER
    normaliser: str = ""
    query: str = "q[t]"
    non_linear: bool = False

    @property
    def step_only(self) -> bool:
        return self.non_linear or (bool(self.cols) and any(self.steps))

    def outer(self, left: str, value: str) -> str:
        return f"{value} @ {left}.T" if self.transposed else f"{left} @ {value}.T"

    def read(self, state: str, query: str) -> str:
        return f"{state} @ {query}" if self.transposed else f"{state}.T @ {query}"

    def gate(self, decay: str) -> str:
        at = ("t+1" if self.backward else "t-1") if self.gate_ahead else "t"
        return decay.replace("@", at)

    def decayed(self, before: str) -> str:
        text = before
        if self.rows:
            rows = self.gate(self.rows)
            text = f"({text} * {rows}.T)" if self.transposed else f"(diag({rows}) @ {text})"
        if self.cols:
            cols = self.gate(self.cols)
            text = f"({cols} * {text})" if self.transposed else f"({text} * {cols}.T)"
        return f"{self.gate(self.scalar)} * {text}" if self.scalar else text

    def lines(self, name: str, rows: str, cols: str) -> list[str]:
        """Declarations and equations, and last the read-out."""
        before = f"{name}[t+1]" if self.backward else f"{name}[t-1]"
        dims = f"{cols}, {rows}" if self.transposed else f"{rows}, {cols}"
        lines = [f"state {name}: {dims}", f"{name}0 = {self.decayed(before)}"]
        for i, erases in enumerate(self.steps):
            now = f"{name}{i}"
            changes = [e.text(self, now, before if i == 0 else now) for e in erases]
            lines.append(f"{name}{i + 1} = {' + '.join([now, *changes])}")
        written = [f"{name}{len(self.steps)}", *(self.outer(left, value) for left, value in self.writes)]
        update = " + ".join(written)
        lines.append(f"{name}[t] = " + (f"tanh({update})" if self.non_linear else update))
        state = {AFTER: f"{name}[t]", BEFORE: before, DECAYED: f"{name}0"}[self.moment]
        read = self.read(state, self.query)
        return [*lines, *self.normalised(name, rows, read)]

    def normalised(self, name: str, rows: str, read: str) -> list[str]:
        if not self.normaliser:
            return [f"({read})"]
        z, before = f"z{name}", f"z{name}[t+1]" if self.backward else f"z{name}[t-1]"
        decays = " * ".join([*(self.gate(d) for d in (self.scalar, self.rows) if d), before])
        equations = [f"state {z}: {rows}", f"{z}[t] = {' + '.join([decays, *(left for left, _ in self.writes)])}"]
        return [*equations, f"(({read}) / {self.normaliser.replace('@', f'({z}[t].T @ {self.query})')})"]


@dataclass(frozen=True)
class Recurrence:
    """A mixer of one or two states whose reads are added, with a bonus, a skip term and something afterwards."""

    rows: str
    cols: str
    states: tuple[Matrix, ...]
    bonus: bool = False
    skip: bool = False
    afterwards: str = "{}"

    @property
    def step_only(self) -> bool:
        return any(s.step_only for s in self.states)

    def body(self) -> str:
        lines, reads = [], []
        for name, state in zip(("S", "M"), self.states, strict=False):
            *equations, read = state.lines(name, self.rows, self.cols)
            lines += equations
            reads.append(read)
        reads += ["(q[t].T @ (u * k[t])) * v[t]"] * self.bonus + ["d * v[t]"] * self.skip
        if "v[t]" not in "".join([*lines, *reads]):
            reads.append("v[t]")  # something must say how large the values are
        return "\n".join([*lines, f"y[t] = {self.afterwards.format(' + '.join(reads))}"])


ERASES = st.builds(
    Erase,
    left=st.sampled_from(KEYS),
    key=st.sampled_from(KEYS),
    size=st.sampled_from(SIZES),
    value=st.sampled_from(["v[t]", ""]),
    decayed=st.booleans(),
)
WRITES = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=2).map(tuple)


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """One state of any class."""
    steps = draw(st.lists(st.lists(ERASES, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple))
    # Columns may decay, or rows be erased: both at once is the one combination without a chunked form.
    may_decay_columns = not steps or draw(st.integers(0, 9)) == 9
    common = {
        "backward": draw(st.booleans()),
        "transposed": draw(st.booleans()),
        "gate_ahead": draw(st.booleans()),
        "scalar": draw(st.sampled_from(SCALARS)),
        "rows": draw(st.sampled_from(ROW_DECAYS)),
        "cols": draw(st.sampled_from(COL_DECAYS)) if may_decay_columns else "",
        "moment": draw(st.sampled_from([AFTER, BEFORE, DECAYED])),
    }
    writes = draw(WRITES)
    if steps or draw(st.integers(0, 2)) < 2:
        writes = writes or (() if steps else (("k[t]", "v[t]"),))
        return Matrix(**common, steps=steps, writes=writes, non_linear=draw(st.integers(0, 19)) == 19)
    return draw(normalised(common))


@st.composite
def normalised(draw: st.DrawFn, common: dict[str, object]) -> Matrix:
    """A state and its normaliser; what is divided by stays away from zero."""
    bounded = draw(st.sampled_from(["max(abs@, 1)", "(1 + abs@)"]))
    signed = any(s in f"{common['scalar']} {common['rows']}".split() for s in ("sg[@]", "-0.5", "sk[@]", "u"))
    ratio = common["moment"] == AFTER and not signed and draw(st.booleans())
    feature = draw(st.sampled_from(POSITIVE))
    write = (feature.format("k[t]"), draw(st.sampled_from(VALUES)))
    return Matrix(
        **{**common, "cols": ""}, writes=(write,), normaliser="@" if ratio else bounded, query=feature.format("q[t]")
    )


def recurrences(rows: str, cols: str) -> st.SearchStrategy[Recurrence]:
    """Step equations over these two dimensions."""
    return st.builds(
        Recurrence,
        st.just(rows),
        st.just(cols),
        st.lists(matrices(), min_size=1, max_size=2).map(tuple),
        st.booleans(),
        st.booleans(),
        st.sampled_from(AFTERWARDS),
    )
