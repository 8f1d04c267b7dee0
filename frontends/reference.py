"""The generated parts of docs/language.md: grammar, functions, masks, from the tables that the compiler itself uses."""

import re
from importlib.resources import files

from smir.frontends.functions import FUNCTIONS
from smir.frontends.masks import MASKS


def grammar_ebnf() -> str:
    """The grammar's rules with tokens spelled out and parse-tree names left out."""
    text = files("smir.frontends").joinpath("grammar.lark").read_text(encoding="utf-8")
    rules, _, terminals = text.partition("MIXER:")
    rules = rules[rules.index("start:") :]
    spelled = dict(re.findall(r'^([A-Z]+): (".*")$', "MIXER:" + terminals, re.MULTILINE))
    spelled |= {
        "COMPARE": '("<" | "<=" | ">" | ">=" | "==" | "!=")',
        "STAR": '("*" | "∘")',
        "TRANSPOSE": '".T"',
        "_SEP": "SEPARATOR",
    }
    rules = re.sub(r"\s+->.*$", "", rules, flags=re.MULTILINE)
    rules = re.sub(r"^\?", "", rules, flags=re.MULTILINE)
    rules = re.sub(r"\b_?[A-Z]{2,}\b", lambda word: spelled.get(word[0], word[0]), rules)
    return rules.strip() + "\n"


def function_table() -> str:
    """All functions as a Markdown table."""
    rows = [f"| `{f.signature}` | {f.doc.replace('|', chr(92) + '|')} |" for group in FUNCTIONS.values() for f in group]
    return "\n".join(["| function | meaning |", "|---|---|", *rows]) + "\n"


def mask_table() -> str:
    """All masks as a Markdown table."""
    rows = [f"| `{m.signature}` | `{m.formula}` | {m.doc} |" for m in MASKS.values()]
    return "\n".join(["| mask | entry (i, j) | |", "|---|---|---|", *rows]) + "\n"
