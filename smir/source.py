"""Source text with positions: what every error points at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """The text of one spec and where it came from (a path, a library name or `<spec>`)."""

    name: str
    text: str


@dataclass(frozen=True)
class Span:
    """A range of characters in a source, `start` inclusive and `end` exclusive."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """Line of the first character, counted from 1."""
        return self.source.text.count("\n", 0, self.start) + 1

    @property
    def column(self) -> int:
        """Column of the first character, counted from 1."""
        return self.start - (self.source.text.rfind("\n", 0, self.start) + 1) + 1

    @property
    def text(self) -> str:
        """The characters themselves."""
        return self.source.text[self.start : self.end]

    def excerpt(self) -> str:
        """The line with a caret under the span."""
        lines = self.source.text.split("\n")
        line = lines[min(self.line, len(lines)) - 1]
        width = max(1, min(self.end - self.start, len(line) - self.column + 1))
        gutter = f"{self.line:>4} | "
        margin = "".join("\t" if c == "\t" else " " for c in line[: self.column - 1])
        return f"{gutter}{line}\n{' ' * (len(gutter) - 2)}| {margin}{'^' * width}"

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"
