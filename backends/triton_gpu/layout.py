"""Keeps printed lines as wide as a page: breaks calls at their commas and formulas at their spaces."""

from smir.backends.triton_gpu.names import comment

WIDTH = 116
INDENT = "    "
_OPEN, _CLOSE = "([{", ")]}"


def wrapped(line: str) -> str:
    """A line, its longest call broken into one argument a line if it is too wide."""
    if len(line) <= WIDTH:
        return line
    start, end = _longest_call(line)
    if end - start < 2:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    inner = indent + INDENT
    arguments = "".join(f"{inner}{_broken(a.strip(), inner)},\n" for a in _split(line[start + 1 : end]))
    return f"{line[: start + 1]}\n{arguments}{indent}{line[end:]}"


def _broken(argument: str, indent: str) -> str:
    """An argument, before the last sign of its sum that fits on a line broken if it is too wide."""
    if len(indent) + len(argument) < WIDTH:
        return argument
    depth, cut = 0, 0
    for i, c in enumerate(argument[: WIDTH - len(indent)]):
        depth += (c in _OPEN) - (c in _CLOSE)
        cut = i if depth == 0 and argument.startswith(" + ", i) else cut
    return f"{argument[:cut]}\n{indent}{argument[cut + 1 :]}" if cut else argument


def _longest_call(line: str) -> tuple[int, int]:
    """Where the widest outermost pair of parentheses behind a function's name opens and closes."""
    best, depth, start = (0, 0), 0, 0
    for i, c in enumerate(line):
        if c in _OPEN:
            start = i if depth == 0 else start
            depth += 1
        elif c in _CLOSE:
            depth -= 1
            is_call = line[start] == "(" and start > 0 and line[start - 1].isidentifier()
            if depth == 0 and is_call and i - start > best[1] - best[0]:
                best = (start, i)
    return best


def _split(text: str) -> list[str]:
    """The arguments of a call."""
    parts, depth, first = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in _OPEN) - (c in _CLOSE)
        if c == "," and depth == 0:
            parts.append(text[first:i])
            first = i + 1
    return [*parts, text[first:]]


def comment_lines(formula: str) -> list[str]:
    """A formula as comments, one assignment a line, broken at spaces."""
    lines = []
    for statement in formula.split("; "):
        while len(statement) > WIDTH:
            cut = statement.rfind(" ", len(INDENT) + 1, WIDTH)
            cut = cut if cut > 0 else WIDTH
            lines.append(statement[:cut])
            statement = INDENT + statement[cut:].strip()
        lines.append(statement)
    return [f"# {comment(line)}" for line in lines]
