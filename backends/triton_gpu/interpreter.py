"""Makes Triton's interpreter (TRITON_INTERPRET=1) count loops with current numpy.

It keeps scalars as arrays of one element, which `range` can't take since numpy 2.4 refuses to make an index of one.
"""

import os
from typing import Any


def is_interpreting() -> bool:
    """Whether kernels are run by the interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def prepare_interpreter() -> None:
    """Lets interpreted kernels loop over `range(x)` of a run-time scalar. Safe to call again."""
    from triton.runtime import interpreter

    original = interpreter._patch_lang_tensor
    if getattr(original, "counts_loops", False):
        return

    def patched(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    patched.counts_loops = True  # type: ignore[attr-defined]
    interpreter._patch_lang_tensor = patched
