"""What a caller keeps of the tokens before a segment of a masked operator."""

from dataclasses import dataclass

from smir.ir.segment import POSITION, past_of


@dataclass(frozen=True)
class PairCache:
    """What a caller keeps for later segments: of the inputs in `inputs` the last `tokens` (None: all).

    `absolute`: a weight depends on the number of a position, not on distances alone. `delays` says how many tokens back
    inputs are read; what is read so is, under the name of its delay line, an input too.
    """

    inputs: tuple[str, ...]
    tokens: int | None
    absolute: bool
    delays: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The entries of a state."""
        lines = (name for name, _ in self.delays if name not in self.inputs)
        return (*map(past_of, (*self.inputs, *lines)), *([POSITION] if self.needs_position else []))

    @property
    def needs_position(self) -> bool:
        """Whether the tokens that are kept don't tell a position that weights depend on."""
        return self.absolute and self.tokens is not None

    def longest(self, name: str) -> int:
        """How many tokens back an input is read."""
        return max(dict(self.delays).get(name, (0,)))
