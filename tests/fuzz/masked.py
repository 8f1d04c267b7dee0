"""Random masked operators, as small records that print themselves as a spec's text."""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.fuzz.recurrences import POSITIVE

MASKS = [
    "causal", "full", "window(1)", "window(3)", "decay(gamma)", "decay(0.9)", "selective(lam)", "selective(exp(g))",
    "selective(keep)", "lion(exp(g))", "lion(lam)", "lion(gamma)",
]  # fmt: skip
# Entries of index formulas with ones on the diagonal.
FORMULAS = [
    "where(j <= i, prod(m, j+1, i, lam[m]), 0)",
    "where(j <= i, exp(sum(m, j+1, i, g[m])), 0)",
    "where(j <= i, prod(m, j, i-1, exp(g[m])), prod(m, i+1, j, exp(g[m])))",
    "where(j <= i, gamma**(i - j), 0)",
    "gamma**abs(i - j)",
    "where(j <= i and i - j < 4, 1, 0)",
    "exp(-abs(i - j))",
]
# And without: no row may be divided by its sum.
ODD_FORMULAS = [
    "where(j < i, prod(m, j+1, i-1, exp(g[m])), 0)",
    "where(j <= i - 2, prod(m, j+1, i, lam[m]) * dt[j], 0)",
    "where(j <= i, prod(m, j+1, i, sg[m]), 0)",
    "where(i < j, prod(m, i+1, j, keep[m]), beta[i])",
]
AFTERWARDS = ["{}", "tanh({})", "({}) * silu(x)", "rmsnorm({})", "({}) * sigmoid(v) + x"]


@dataclass(frozen=True)
class Masked:
    """`y = afterwards((masks * features of q and k) @ v)`, rows normalised or not."""

    rows: str
    cols: str
    masks: tuple[str, ...]
    formulas: tuple[str, ...]
    feature: str
    normalised: bool
    skip: bool
    afterwards: str
    step_only: bool = False

    def body(self) -> str:
        lines = [f"M{n}[i, j] = {entry}" for n, entry in enumerate(self.formulas)]
        mask = " * ".join([*self.masks, *(f"M{n}" for n in range(len(self.formulas)))])
        kernel = f"{mask} * ({self.feature.format('q')} @ {self.feature.format('k')}.T)"
        y = f"{f'normalize({kernel})' if self.normalised else f'({kernel})'} @ v"
        y = f"{y} + d.T * v" if self.skip else y
        return "\n".join([*lines, f"y = {self.afterwards.format(y)}"])


@st.composite
def masked(draw: st.DrawFn, rows: str, cols: str) -> Masked:
    """Masked operators over these two dimensions."""
    normalised = draw(st.booleans())
    features = POSITIVE if normalised else ["{}", *POSITIVE]
    formulas = FORMULAS if normalised else [*FORMULAS, *ODD_FORMULAS]
    masks = draw(st.lists(st.sampled_from(MASKS), max_size=2, unique=True))
    entries = draw(st.lists(st.sampled_from(formulas), min_size=not masks, max_size=1))
    return Masked(rows, cols, tuple(masks), tuple(entries), draw(st.sampled_from(features)), normalised,
                  draw(st.booleans()), draw(st.sampled_from(AFTERWARDS)))  # fmt: skip
