"""The generated blocks that the compiler writes: one mixer at every level, and facts about a few others.

What a block leaves out is marked by a line `... (what it was)`.
"""

import re
from functools import cache
from pathlib import Path

import smir
from smir.compiled import CompiledMixer
from smir.compiler import STAGES
from smir.ir.formula import formula
from smir.ir.mixer import Mixer
from smir.ir.printer import print_ir
from smir.ir.tile_program import CHUNKED, SCAN
from smir.passes.analysis.exponents import exponent_report
from smir.specs import find_spec

ROOT = Path(__file__).parents[1]
SHOWN, TWO_SIDED, ERASING, PER_CHANNEL = "scalar_decay", "lion_s", "gated_delta_rule", "gla"
SIZES = {"K": 128, "V": 128}
NON_LINEAR = """mixer non_linear
  input q, k: K
  input v: V
  state S: K, V
  S[t] = tanh(S[t-1]) + k[t] @ v[t].T
  y[t] = S[t].T @ q[t]
"""
# The tile operation of the worked example: one that every part has to know.
OPERATION = "reduce_max"


def fenced(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"


@cache
def compiled(name: str) -> CompiledMixer:
    """A library mixer in its chunked form."""
    return smir.compile(name, form=CHUNKED)


# ---- one mixer, level by level ----------------------------------------------------------------------------------


def spec() -> str:
    return fenced(find_spec(SHOWN).text, "smir")


def ir(level: str) -> str:
    """The IR as the compiler prints it; operators without the mixer that they carry along."""
    text = compiled(SHOWN).ir(level)
    if level == "operators":
        text = without_block(text, "  mixer ")
    return fenced(text)


def triton_kernel() -> str:
    """The loop of the kernel that carries the state, under the comment that says what it is."""
    text = compiled(SHOWN).sources("triton")["carry_S.py"]
    comment = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("# "))
    left_out = "    # ... (signature, program numbers, pointers, initial state)\n"
    return fenced(comment + "\n" + left_out + excerpt(text, "    for chunk in range("), "python")


def numpy_program() -> str:
    """The arithmetic of the numpy program, without its docstring and the functions it brings along."""
    text = compiled(SHOWN).source("numpy")
    left_out = "    # ... (sizes, and the inputs cut into chunks)\n"
    return fenced(left_out + excerpt(text, "    # prep_output:", "    y = np.broadcast_to"), "python")


# ---- other mixers, one thing each -------------------------------------------------------------------------------


def two_sided_spec() -> str:
    return fenced(find_spec(TWO_SIDED).text, "smir")


def two_sided_recurrence() -> str:
    """The step equations that the masked operator becomes, without declarations."""
    found = compiled(TWO_SIDED).compilation.recurrence
    assert isinstance(found, Mixer)
    lines = print_ir(found).splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("  input ")]
    return fenced("".join([kept[0], "  ... (inputs)\n", *kept[1:]]))


def kernels_with_erase() -> str:
    """Name, axis roles and formula of every kernel of a mixer whose plan has all three parts."""
    plan = compiled(ERASING).compilation.plans[CHUNKED]
    rows = []
    for kernel in plan.kernels:
        roles = ", ".join(f"{axis} {role}" for axis, role in kernel.roles)
        rows.append(f"{kernel.name}   ({roles})\n" + "".join(f"    {f}\n" for f in kernel.formula.split("; ")))
    buffers = "".join(f"    {b.name}: {b.rows} x {b.cols} a chunk, {b.dtype}\n" for b in plan.buffers)
    return fenced("".join(rows) + "buffers\n" + buffers)


def mixed_tile() -> str:
    """The values below the level sum of a mixer with one decay per channel."""
    lines = compiled(PER_CHANNEL).ir("tile").splitlines()
    made = {m[1]: line for line in lines if (m := re.match(r"  (%\w+) = ", line))}
    last = next(name for name, line in made.items() if f"{name} = level_sum(" in line)
    needed, todo = set(), [last]
    while todo:
        name = todo.pop()
        needed.add(name)
        todo += [a for a in re.findall(r"%\w+", made[name].split(" = ", 1)[1]) if a not in needed]
    kept = "".join(f"{line}\n" for name, line in made.items() if name in needed)
    return fenced("  ... (everything that doesn't lead to the scores)\n" + kept)


def scan_tile() -> str:
    """A recurrence of every channel on its own."""
    return fenced(smir.compile("hgrn", form=SCAN).ir("tile"))


def exponents() -> str:
    """Every exponential of the chunked forms of two mixers, with the proved interval of its argument."""
    rows = ["| mixer | exponential, as the proof sees it | its argument lies in |", "|---|---|---|"]
    for name in (SHOWN, PER_CHANNEL):
        report = exponent_report(compiled(name).compilation.tiles[CHUNKED])
        rows += [f"| {name} | `{formula(e.node)}` | {e.interval} |" for e in report]
    return "\n".join(rows)


def forms() -> str:
    return fenced(str(smir.compile(SHOWN).explain(**SIZES)))


def no_form() -> str:
    """What explain says about a non-linear state: the first lines, without costs."""
    lines = str(smir.compile(NON_LINEAR).explain()).splitlines()
    return fenced(NON_LINEAR, "smir") + "\n" + fenced("\n".join(line for line in lines[:4]))


# ---- the compiler itself ----------------------------------------------------------------------------------------


def stages() -> str:
    """The stages of the driver and what each one made of the mixer shown."""
    done = smir.compile(SHOWN).compilation
    rows = ["| stage | adds to the compilation | for this mixer |", "|---|---|---|"]
    for stage in STAGES:
        made = getattr(done, stage.product)
        here = ", ".join(made) if isinstance(made, dict) else "nothing" if made is None else "one"
        rows.append(f"| `{stage.name}` | `{stage.product}` | {here} |")
    return "\n".join(rows)


def tile_operation() -> str:
    """Every line of the compiler that knows the operation of the worked example, by file."""
    found = []
    for folder in ("smir", "passes", "backends"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if folder == "smir" and path.relative_to(ROOT).parts[1] != "ir":
                continue
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if OPERATION in line]
            if lines:
                found.append(f"{path.relative_to(ROOT).as_posix()}\n" + "".join(f"    {line}\n" for line in lines))
    return fenced("".join(found))


# ---- shortening -------------------------------------------------------------------------------------------------


def excerpt(text: str, first: str, last: str | None = None) -> str:
    """The lines from the one that begins with `first` to before the one that begins with `last` (to the end)."""
    lines = text.splitlines(keepends=True)
    start = next((i for i, line in enumerate(lines) if line.startswith(first)), None)
    if start is None:
        raise ValueError(f"the emitted program has no line that begins with {first!r}")
    if last is None:
        return "".join(lines[start:])
    end = next((i for i, line in enumerate(lines) if i > start and line.startswith(last)), None)
    if end is None:
        raise ValueError(f"the emitted program has no line that begins with {last!r}")
    return "".join(lines[start:end])


def without_block(text: str, head: str) -> str:
    """The text with the inside of the block that begins with `head` left out."""
    lines = text.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith(head))
    indent = len(head) - len(head.lstrip())
    end = next(i for i, line in enumerate(lines) if i > start and line.startswith(" " * indent + "}"))
    return "".join([*lines[: start + 1], " " * indent + "  ... (the mixer as above)\n", *lines[end:]])
