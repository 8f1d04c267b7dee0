"""What the printer and the parser share: tokens of a line, and the spelling of numbers, names and ranges.

A text is a sequence of lines; a line that ends with `{` opens a block that a line `}` closes. `#` starts a comment.
"""

import json
import re
from dataclasses import dataclass, field
from typing import NoReturn

from smir.errors import IRError
from smir.ir.dims import Dim
from smir.ir.graph import Attr
from smir.ir.interval import Interval
from smir.source import Source, Span

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|%\w+|[(){}\[\],:=]|[^\s(){}\[\],:="%#]+')
_BLANK = re.compile(r"[ \t\r]*(#[^\n]*)?")
# Longer than any dimension that a person or a pass writes, short enough for a parser that recurses.
_LONGEST = 200
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def is_name(text: str) -> bool:
    """Whether this can stand unquoted, also as the name of a value."""
    return _NAME.fullmatch(text) is not None


def show_name(name: str) -> str:
    return name if is_name(name) else json.dumps(name)


def show_attr(value: Attr) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def show_interval(interval: Interval) -> str:
    """` in [lo, hi]`, or nothing for the whole line."""
    if interval == Interval():
        return ""
    left, right = "(" if interval.lo_open else "[", ")" if interval.hi_open else "]"
    return f" in {left}{float(interval.lo)!r}, {float(interval.hi)!r}{right}"


def show_dims(dims: tuple[Dim, ...]) -> str:
    return ", ".join(map(str, dims)) if dims else "scalar"


@dataclass
class Line:
    """The tokens of one line, each with its span, and how far they have been read."""

    tokens: list[tuple[str, Span]]
    end: Span
    place: int = field(default=0)

    @property
    def head(self) -> str:
        """The next token, empty at the line's end."""
        return self.tokens[self.place][0] if self.place < len(self.tokens) else ""

    @property
    def span(self) -> Span:
        return self.tokens[self.place][1] if self.place < len(self.tokens) else self.end

    def fail(self, expected: str) -> NoReturn:
        found = repr(self.head) if self.head else "the end of the line"
        raise IRError(f"expected {expected}, found {found} in line {self.span.line}", self.span)

    def take(self) -> str:
        token = self.head
        self.place += 1
        return token

    def accept(self, token: str) -> bool:
        """Takes the token if it comes next."""
        if self.head != token:
            return False
        self.place += 1
        return True

    def expect(self, token: str) -> None:
        if not self.accept(token):
            self.fail(f"`{token}`")

    def done(self) -> None:
        if self.head:
            self.fail("the end of the line")

    def word(self, expected: str) -> str:
        if not self.head or self.head[0] in '"%(){}[],:=':
            self.fail(expected)
        return self.take()

    def name(self, expected: str = "a name") -> str:
        """A bare name or a quoted one."""
        return self.string() if self.head.startswith('"') else self.word(expected)

    def string(self) -> str:
        if not self.head.startswith('"'):
            self.fail("a quoted string")
        try:
            value = json.loads(self.head)
        except ValueError:
            self.fail("a quoted string")
        self.place += 1
        return str(value)

    def number(self) -> float:
        try:
            value = float(self.head)
        except ValueError:
            self.fail("a number")
        self.place += 1
        return value

    def attr(self) -> Attr:
        """A string, `true`, `false`, an integer or a float."""
        if self.head.startswith('"'):
            return self.string()
        if self.head in ("true", "false"):
            return self.take() == "true"
        return int(self.take()) if re.fullmatch(r"-?[0-9]{1,18}", self.head) else self.number()

    def dim(self) -> Dim:
        span, word = self.span, self.word("a dimension")
        try:
            if len(word) <= _LONGEST:
                return Dim.parse(word)
            raise IRError("too long")
        except (IRError, ZeroDivisionError):
            raise IRError(f"not a dimension: {word!r} in line {span.line}", span) from None

    def dims(self) -> tuple[Dim, ...]:
        """`scalar`, or dimensions between commas."""
        if self.accept("scalar"):
            return ()
        dims = [self.dim()]
        while self.accept(","):
            dims.append(self.dim())
        return tuple(dims)

    def interval(self) -> Interval:
        """` in [lo, hi]`, or the whole line."""
        if not self.accept("in"):
            return Interval()
        if self.head not in ("(", "["):
            self.fail("`[` or `(`")
        lo_open, lo = self.take() == "(", self.number()
        self.expect(",")
        hi = self.number()
        if self.head not in (")", "]"):
            self.fail("`]` or `)`")
        return Interval(lo, hi, lo_open, self.take() == ")")


def split_lines(text: str) -> list[Line]:
    """The lines that hold anything. Raises IRError for characters that start no token."""
    source, lines, place = Source("<ir>", text), [], 0
    for row in text.split("\n"):
        tokens, at, end = [], place, place + len(row)
        while (at := _skip(text, at)) < end:
            match = _TOKEN.match(text, at, end)
            if match is None:
                span = Span(source, at, at + 1)
                raise IRError(f"unexpected {text[at]!r} in line {span.line}", span)
            tokens.append((match.group(), Span(source, at, match.end())))
            at = match.end()
        if tokens:
            lines.append(Line(tokens, Span(source, end, end)))
        place = end + 1
    return lines


def _skip(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at
