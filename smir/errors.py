"""Every error a person can meet: what is wrong, where, and what to write instead."""

from smir.source import Span


class SmirError(Exception):
    """Base of all errors of this project.

    `message` says what was found and what was expected, `span` where, `hint` what to write instead.
    """

    def __init__(self, message: str, span: Span | None = None, hint: str | None = None) -> None:
        self.message, self.span, self.hint = message, span, hint
        super().__init__(self.render())

    def render(self) -> str:
        """The text a person reads: position, message, excerpt with a caret, hint."""
        head = f"{self.span}: {self.message}" if self.span else self.message
        excerpt = f"\n{self.span.excerpt()}" if self.span else ""
        hint = f"\nhint: {self.hint}" if self.hint else ""
        return head + excerpt + hint

    def to_json(self) -> dict[str, object]:
        """The same facts for machines."""
        where = {"file": self.span.source.name, "line": self.span.line, "column": self.span.column} if self.span else {}
        return {"error": type(self).__name__, "message": self.message, "hint": self.hint, **where}


class SpecSyntaxError(SmirError):
    """The text is not in the language."""


class SpecNameError(SmirError):
    """A name that is unknown, reserved, or defined twice."""


class SpecTypeError(SmirError):
    """Dimensions, time variance or ranges that don't fit."""


class SpecCycleError(SmirError):
    """Definitions that need each other at the same time step."""


class FormError(SmirError):
    """A form that this mixer's algebra, or this backend, does not allow."""


class ArgumentError(SmirError):
    """A call with wrong, missing or extra arguments, shapes, dtypes or devices."""


class GradientError(SmirError):
    """A derivative that isn't computed."""


class RangeError(SmirError):
    """A value outside the range that the spec promises."""


class BackendError(SmirError):
    """A backend that cannot run here (no GPU, missing package)."""


class IRError(SmirError):
    """An IR that its verifier or parser refuses: a bug in a pass, or a hand-written text."""
