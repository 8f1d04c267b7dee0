"""SMIR compiles sequence mixers: step equations or a masked operator in, a program for each form that is legal out.

    import smir
    mixer = smir.compile("gated_delta_rule")
    y, state = mixer(q, k, v, g, beta, return_state=True)

Names are loaded on first use, so `import smir` costs milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smir import nn as nn
    from smir.compiled import CompiledMixer as CompiledMixer
    from smir.compiled import compile as compile
    from smir.errors import ArgumentError as ArgumentError
    from smir.errors import BackendError as BackendError
    from smir.errors import FormError as FormError
    from smir.errors import GradientError as GradientError
    from smir.errors import IRError as IRError
    from smir.errors import RangeError as RangeError
    from smir.errors import SmirError as SmirError
    from smir.errors import SpecCycleError as SpecCycleError
    from smir.errors import SpecNameError as SpecNameError
    from smir.errors import SpecSyntaxError as SpecSyntaxError
    from smir.errors import SpecTypeError as SpecTypeError
    from smir.sampling import sample as sample
    from smir.specs import library_names as library_names

__version__ = "0.1.0"

_ERRORS = (
    "ArgumentError BackendError FormError GradientError IRError RangeError SmirError "
    "SpecCycleError SpecNameError SpecSyntaxError SpecTypeError"
).split()
_HOME = {
    "compile": "smir.compiled",
    "CompiledMixer": "smir.compiled",
    "library_names": "smir.specs",
    "sample": "smir.sampling",
    **dict.fromkeys(_ERRORS, "smir.errors"),
}


def __getattr__(name: str) -> Any:
    if name == "nn":  # loads torch
        return import_module("smir.nn")
    if name not in _HOME:
        raise AttributeError(f"module 'smir' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__", "nn"])
