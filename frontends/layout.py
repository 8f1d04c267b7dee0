"""Layout: which line ends end a statement. Runs between the lexer and the parser."""

from collections.abc import Iterator

from lark import Token

from smir.errors import SpecSyntaxError
from smir.frontends.limits import MAX_DEPTH
from smir.source import Source, Span

SEPARATOR = "_SEP"
_OPENING, _CLOSING = {"LPAR", "LSQB"}, {"RPAR", "RSQB"}


class Layout:
    """Drops newlines inside brackets and merges the rest, with `;`, into single separators between statements.

    Only the number of open brackets counts, because a range may open with one kind and close with the other:
    `(0, 1]`.
    """

    always_accept = ("_NEWLINE", "_SEMICOLON")

    def process(self, tokens: Iterator[Token]) -> Iterator[Token]:
        depth, pending, started = 0, None, False
        for token in tokens:
            depth = max(0, depth + (token.type in _OPENING) - (token.type in _CLOSING))
            if token.type == "_SEMICOLON" or (token.type == "_NEWLINE" and depth == 0):
                pending = pending or token
            elif token.type != "_NEWLINE":
                if pending is not None and started:
                    yield Token.new_borrow_pos(SEPARATOR, pending.value, pending)
                yield token
                pending, started = None, True


def unclosed_bracket(source: Source, tokens: list[Token]) -> Span | None:
    """The last bracket among these tokens that is never closed."""
    open_brackets: list[Token] = []
    for token in tokens:
        if token.type in _OPENING:
            open_brackets.append(token)
        elif token.type in _CLOSING and open_brackets:
            open_brackets.pop()
    return token_span(source, open_brackets[-1]) if open_brackets else None


def token_span(source: Source, token: Token) -> Span:
    """Where a token stands."""
    start = token.start_pos or 0
    return Span(source, start, start + len(token.value))


def check_nesting(source: Source, tokens: list[Token]) -> None:
    """Raises SpecSyntaxError where brackets are nested deeper than MAX_DEPTH."""
    depth = 0
    for token in tokens:
        depth += (token.type in _OPENING) - (token.type in _CLOSING)
        if depth > MAX_DEPTH:
            raise SpecSyntaxError(
                f"brackets nested more than {MAX_DEPTH} deep",
                token_span(source, token),
                "give the inner parts names of their own",
            )
