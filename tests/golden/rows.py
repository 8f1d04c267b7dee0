"""The golden rows that have every form, and how a row is called through the public API in one form."""

from collections.abc import Mapping
from functools import cache

import numpy as np

import smir
from smir.compilation import Compilation
from smir.compiled import CompiledMixer
from smir.verify import run_form
from tests.golden.vectors import cases

ROWS = (
    "linear_attention linear_attention_elu_norm retnet gated_rfa gated_rfa_unnorm scalar_decay mamba2_ssd gla hgrn2 "
    "rwkv6 dfw delta_rule gated_delta_rule kda dplr rwkv7 lion_lit lion_lit_norm lion_d lion_d_norm lion_s lion_s_norm "
    "lion_s_repo lion_s_repo_norm bidir_half gsa abc"
).split()
# The rows whose states are used by value: they have the step and the scan form. More of them are stabilised rows.
BY_VALUE = "hgrn rglru mamba1 s4d_real s4d".split()
SCAN_CHUNKS = (1, 5, 16, 64)
# Those whose one form runs over pairs of positions.
PAIR_ROWS = (
    "softmax_causal softmax_window8 softmax_full softmax_gqa softmax_alibi forgetting_attention aft_full "
    "aft_full_causal"
).split()
PAIR_RUNS = [(name, case) for name in PAIR_ROWS for case in cases(name)]
RUNS = [(name, case) for name in ROWS for case in cases(name)]

# Forms and their chunks: the step form has none, the quadratic form is one block, or many of 16 tokens. 37 tokens are
# cut by no chunk, are one ragged chunk, or 37 chunks of one token.
FORMS = [("step", None), *(("chunked", c) for c in (1, 5, 16, 64)), ("quadratic", 64), ("quadratic", 16)]
FORM_IDS = [form if chunk is None else f"{form}-{chunk}" for form, chunk in FORMS]

Arrays = Mapping[str, np.ndarray]


@cache
def compilation(name: str) -> Compilation:
    """The library's mixer of this name, compiled once for all forms and chunks."""
    return smir.compile(name).compilation


@cache
def compiled(name: str, form: str, chunk: int | None) -> CompiledMixer:
    """The library's mixer of this name in this form."""
    return CompiledMixer(compilation(name), form, None, chunk)


def call(
    name: str, form: str, chunk: int | None, inputs: Arrays, initial: Arrays | None = None, dtype: type = np.float64
) -> dict[str, np.ndarray]:
    """The output as `y` and the final states by name; inputs are passed by their names."""
    arrays: dict[str, np.ndarray] = {n: a.astype(dtype) for n, a in inputs.items()}
    states: dict[str, np.ndarray] = {n: a.astype(dtype) for n, a in (initial or {}).items()}
    if states and compilation(name).lookahead is not None:
        # initial states of both directions, which no call takes: nothing goes on from them
        return run_form(compilation(name), form, arrays, states, chunk or 1)
    y, final = compiled(name, form, chunk)(**arrays, state=states or None, return_state=True)
    return {"y": y, **{n: a for n, a in final.items() if not compilation(name).spec.masked}}
