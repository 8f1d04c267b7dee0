"""From what the parser could not read to what a person should write."""

from lark import Token

from smir.errors import SpecSyntaxError
from smir.frontends.layout import SEPARATOR, token_span, unclosed_bracket
from smir.source import Source, Span

_CHARACTERS = {
    "^": "a power is written `x ** 2`",
    "'": "the transpose is written `x.T`",
    "ᵀ": "the transpose is written `x.T`",
    "·": "products are `*` (elementwise) and `@` (matrix)",
    "\N{MULTIPLICATION SIGN}": "products are `*` (elementwise) and `@` (matrix)",
    "⊙": "the elementwise product is `*` or `∘`",
    ".": "the transpose is written `x.T`; a number has digits on both sides of its point, or starts with it",
    "{": "group with parentheses",
    "}": "group with parentheses",
    '"': "a spec has no strings",
    "%": "a comment starts with `#`",
    "&": "write `and`",
    "|": "write `or`",
    "!": "`not equal` is `!=`",
    "\\": "a newline inside brackets continues the statement by itself",
    "\N{MINUS SIGN}": "minus is `-`",
    "\N{EN DASH}": "minus is `-`",
    "≤": "write `<=`",
    "≥": "write `>=`",
    "∞": "infinity is `inf`",
}

_EXPRESSION = frozenset({"NAME", "NUMBER", "INF", "LPAR", "MINUS"})
_ENDS = frozenset({"NUMBER", "NAME", "RPAR", "RSQB", "INF", "TRANSPOSE"})
_OPERATORS = frozenset({"PLUS", "MINUS", "STAR", "SLASH", "AT", "POWER", "COMPARE", "AND", "OR", "TRANSPOSE", "LSQB"})
_STATEMENTS = frozenset({"INPUT", "PARAM", "STATE", "CONST"})
_KEYWORDS = _STATEMENTS | {"MIXER", "SCALAR", "HEADS", "IN", "INF", "AND", "OR"}
_WORDS = {
    "NAME": "a name", "RPAR": "`)`", "RSQB": "`]`", "LPAR": "`(`", "LSQB": "`[`", "COMMA": "`,`", "COLON": "`:`",
    "EQUAL": "`=`", "HEADS": "`heads`", "IN": "`in`", "MIXER": "`mixer NAME`", "SCALAR": "`scalar`",
    SEPARATOR: "the end of the statement",
    "$END": "the end of the statement", "COMPARE": "a comparison", "AND": "`and`", "OR": "`or`",
}  # fmt: skip


def bad_character(source: Source, position: int) -> SpecSyntaxError:
    """The error for a character that starts no token."""
    character = source.text[position]
    shown = f"`{character}`" if character.isprintable() else "a control character"
    message = f"the character {shown} (U+{ord(character):04X}) is not part of the language"
    hint = _CHARACTERS.get(character)
    if hint is None and character.isalpha():
        hint = "names are ASCII letters, digits and `_`; spell Greek letters out: `gamma`"
    return SpecSyntaxError(message, Span(source, position, position + 1), hint)


def bad_token(source: Source, tokens: list[Token], position: int, expected: set[str]) -> SpecSyntaxError:
    """The error for token number `position` (or for the end of the text, when that is past the last)."""
    at_end = position >= len(tokens)
    token = Token("$END", "") if at_end else tokens[position]
    span = _end(source) if at_end else token_span(source, token)
    found = (
        "the end of the text"
        if at_end
        else "the end of the statement"
        if token.type == SEPARATOR
        else f"`{token[:40]}`"
    )
    before = tokens[position - 1] if position else None
    opened = unclosed_bracket(source, tokens[:position])
    if opened and (token.type in ("$END", SEPARATOR) or "\n" in source.text[opened.start : span.start]):
        return SpecSyntaxError(f"`{opened.text}` is never closed", opened, f"{found} came before its closing bracket")
    message = f"found {found}, expected {_expected(expected)}"
    return SpecSyntaxError(message, span, _hint(token, before, position, expected))


def _end(source: Source) -> Span:
    position = len(source.text.rstrip())
    return Span(source, position, position)


def _hint(token: Token, before: Token | None, position: int, expected: set[str]) -> str | None:
    if position == 0:
        return "a spec starts with `mixer NAME`, then inputs, states and equations"
    if token.type == "MIXER" and before is not None and before.type == SEPARATOR:
        return "one mixer per file"
    if token.type in _KEYWORDS and "NAME" in expected:
        return f"`{token}` is a reserved word; choose another name"
    if token.type == "COMPARE" and "COMPARE" not in expected:
        return "comparisons don't chain: write `a <= b and b < c`"
    if before is not None and before.type in _ENDS and token.type in _EXPRESSION:
        return f"is an operator missing between `{before}` and `{token}`?"
    if token.type == "EQUAL" and before is not None:
        return "equality in a condition is `==`; a definition has one name on its left"
    if expected == {"MIXER"}:
        return "a spec starts with `mixer NAME`"
    return None


def _expected(expected: set[str]) -> str:
    """The expected tokens as a short phrase."""
    words: list[str] = []
    rest = set(expected)
    if rest >= _EXPRESSION:
        words, rest = ["an expression"], rest - _EXPRESSION
    elif rest >= {"PLUS", "MINUS"}:
        words, rest = ["an operator"], rest - _OPERATORS
    if rest >= _STATEMENTS:
        words, rest = ["a declaration or an equation"], rest - _STATEMENTS - {"NAME"}
    words += sorted({_WORDS.get(t, f"`{t.lower()}`") for t in rest})
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "something else"
