"""The catalogue: what a header says, which class a spec belongs to, and `smir list`."""

import pytest

from smir import catalogue
from smir.catalogue import FAMILIES, Entry, entry, header, library
from smir.source import Source
from smir.specs import library_names

INPUTS = "input q, k: K; input v: V; input g: scalar in [-inf, 0]; input beta: scalar in [0, 1]; "
STATE = "state S: K, V; "
READ = "; y[t] = S[t].T @ q[t]"
FAMILY = {
    "S[t] = S[t-1] + k[t] @ v[t].T": "identity",
    "S[t] = exp(g[t]) * S[t-1] + k[t] @ v[t].T": "scalar",
    "S[t] = diag(exp(g[t]) * sigmoid(k[t])) @ S[t-1] + k[t] @ v[t].T": "diagonal",
    "S[t] = S[t-1] + k[t] @ (beta[t] * (v[t] - S[t-1].T @ k[t])).T": "diagonal plus low rank",
    "S[t] = tanh(S[t-1]) + k[t] @ v[t].T": "not linear in its state",
}
OTHER = {
    "mixer m; input x: D; state h: D; h[t] = sigmoid(x[t]) * h[t-1] + x[t]; y[t] = h[t]": "elementwise",
    "mixer m; input q, k: K; input v: V; y = softmax(q @ k.T, causal) @ v": "softmax over positions",
    "mixer m; input q, k: K; input v: V; y = (causal * exp(q @ k.T)) @ v": "other functions of pairs of positions",
    "mixer m; input q, k: K; input v: V; y = (full * (q @ k.T)) @ v": "two directions",
}
HEADERS = {
    '# A: Bo et al., "T: of it" (2020), more.': 'Bo et al., "T: of it" (2020)',
    '# A: Bo, Cy and Di, "T" (2020). Other: words.': 'Bo, Cy and Di, "T" (2020)',
    '# A: "T" (2020)': '"T" (2020)',
    "# No paper, but a year (2020).": "",
}


def made(text: str) -> Entry:
    return entry(Source("spec", text))


@pytest.mark.parametrize("update", FAMILY)
def test_family_of_an_update(update: str) -> None:
    assert made(f"mixer m; {INPUTS}{STATE}{update}{READ}").family == FAMILY[update]


@pytest.mark.parametrize("text", OTHER)
def test_family_of_a_spec(text: str) -> None:
    assert made(text).family == OTHER[text]


@pytest.mark.parametrize("comment", HEADERS)
def test_the_reference_is_what_the_header_cites(comment: str) -> None:
    assert made(f"{comment}\n{next(iter(OTHER))}").reference == HEADERS[comment]


def test_a_header_has_sentences_and_formulas() -> None:
    text = "# One: a\n# b.\n#   S = 1,   T = 2,\n#   U = 3\n#   V = 4\nmixer m\n# not the header\n"
    assert header(text) == ("One: a b.", "S = 1,   T = 2,   U = 3;   V = 4")


def test_the_library_has_every_spec_once_with_a_known_family_and_a_formula() -> None:
    assert [e.name for e in library()] == list(library_names())
    assert all(e.family in FAMILIES and e.forms and e.type and e.formula for e in library())
    assert library() is library(), "compiled once"


def test_a_running_maximum_makes_no_class_of_its_own() -> None:
    found = next(e for e in library() if e.name == "mlstm")
    assert found.family == "scalar" and found.type == "running maximum; scalar"


def test_facts_are_plain_data() -> None:
    facts = catalogue.entry(Source("x", next(iter(OTHER)))).to_json()
    assert facts["name"] == "m" and facts["forms"] == ["step", "scan"] and isinstance(facts["type"], str)
