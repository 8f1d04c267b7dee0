"""Segments: a sequence in pieces, each of which is given what it needs of the tokens before it.

By its name, what a caller keeps of an input is a tensor `<input>_past` `[B, n, H, *dims]`, its last n tokens.
"""

# How many tokens came before a segment, where that is more than are kept.
POSITION = "position"
# How many tokens of the memory that is given as their past are there, where that is counted on the device.
FILLED = "filled"


def past_of(name: str) -> str:
    """The name of the last tokens of an input before a segment."""
    return f"{name}_past"
