"""Prints a kernel plan as a Python package of Triton kernels and their launcher."""

from importlib.resources import files

from smir.backends.triton_gpu.emit_kernel import print_kernel
from smir.backends.triton_gpu.facts import Facts
from smir.backends.triton_gpu.helpers import HELPERS
from smir.backends.triton_gpu.launcher import needs_levels, print_launcher
from smir.backends.triton_gpu.segments import has_segments
from smir.errors import IRError
from smir.ir.kernel import KernelPlan

RESERVED = frozenset({"launch", "tiles", "level_tiles", "level_weights", "inverses", "__init__"})


def emit(plan: KernelPlan, facts: Facts | None = None) -> dict[str, str]:
    """File names and their text: a file per kernel, helpers with shared operations, `launch.py` to run them.

    Raises IRError when a name or an operation of the plan can't be printed.
    """
    facts = facts or Facts()
    if clash := RESERVED & {k.name for k in plan.kernels}:
        raise IRError(f"a kernel can't be called {sorted(clash)[0]}")
    if facts.packed and has_segments(plan):
        raise IRError("packed sequences are walked whole: kernels along segments know sequences of one length")
    printed = [print_kernel(plan, kernel, facts) for kernel in plan.kernels]
    sources = {f"{k.name}.py": k.source for k in printed}
    imported = [f"{name}.py" for name in HELPERS if any(f"from .{name} import" in k.source for k in printed)]
    helpers = {"tiles.py", *imported, *(["level_tiles.py", "level_weights.py"] if needs_levels(printed) else [])}
    return {
        "__init__.py": "from .launch import launch as launch\n",
        "launch.py": print_launcher(plan, printed, facts),
        **{name: _helper(name) for name in sorted(helpers)},
        **sources,
    }


def _helper(name: str) -> str:
    """The text of a module that kernels import, which finds the others beside itself."""
    text = files("smir.backends.triton_gpu").joinpath(name).read_text(encoding="utf-8")
    return text.replace("from smir.backends.triton_gpu.", "from .")
