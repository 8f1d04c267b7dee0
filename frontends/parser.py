"""Text to syntax tree. Every way to fail ends in a SpecSyntaxError with position and hint."""

from functools import cache
from importlib.resources import files

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from smir.errors import SpecSyntaxError
from smir.frontends import syntax
from smir.frontends.layout import Layout, check_nesting
from smir.frontends.limits import MAX_CHARACTERS, MAX_STATEMENTS
from smir.frontends.syntax_errors import bad_character, bad_token
from smir.frontends.tree_builder import TreeBuilder
from smir.source import Source, Span


def parse_text(source: Source) -> syntax.Spec:
    """The syntax tree of one spec. Raises SpecSyntaxError."""
    if len(source.text) > MAX_CHARACTERS:
        message = f"the text has {len(source.text)} characters, a spec at most {MAX_CHARACTERS}"
        raise SpecSyntaxError(message, Span(source, 0, 1), "a spec is the equations of one mixer, about ten lines")
    tokens = _tokens(source)
    check_nesting(source, tokens)
    spec: syntax.Spec = TreeBuilder(source).transform(_parse(source, tokens))
    if len(spec.statements) > MAX_STATEMENTS:
        span = spec.statements[MAX_STATEMENTS].span
        raise SpecSyntaxError(f"more than {MAX_STATEMENTS} statements", span, "a spec is about ten lines")
    return spec


@cache
def grammar() -> Lark:
    """The compiled grammar; built once per process, on first use."""
    text = files("smir.frontends").joinpath("grammar.lark").read_text(encoding="utf-8")
    options = {"propagate_positions": True, "maybe_placeholders": False}
    return Lark(text, parser="lalr", lexer="basic", postlex=Layout(), **options)


def _tokens(source: Source) -> list[Token]:
    try:
        return list(grammar().lex(source.text))
    except UnexpectedCharacters as error:
        raise bad_character(source, error.pos_in_stream or 0) from None


def _parse(source: Source, tokens: list[Token]) -> Tree[Token]:
    parser = grammar().parse_interactive("")
    end = Token("$END", "", start_pos=len(source.text))
    tree: Tree[Token] | None = None
    for position, token in enumerate([*tokens, end]):
        try:
            tree = parser.feed_token(token)
        except UnexpectedToken:
            expected: set[str] = parser.accepts()  # type: ignore[no-untyped-call]
            raise bad_token(source, tokens, position, expected) from None
    assert tree is not None
    return tree
