"""What the tuner needs of each backend: its device, what varies, and how time is measured. One row per backend."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smir.errors import BackendError
from smir.ir.kernel import Kernel, KernelPlan
from smir.tuning.arguments import Shape
from smir.tuning.settings import Options

Launches = Sequence[Any]


@dataclass(frozen=True)
class Target:
    """`chunks(form, shape, dtype)` are sizes worth a measurement, the usual first. `usual_options` are launch options
    by the rule, `moves` others close to given ones. `watched` lets a runner write down its launches, of which
    `kernel_seconds` measures each. `compiled_for` is what kernels can be compiled for beforehand.
    """

    device: Callable[[str], str]
    compiler: Callable[[], str]
    chunks: Callable[[str, Shape, str], tuple[int, ...]]
    usual_options: Callable[[KernelPlan, Mapping[str, int], int, str], Mapping[str, Options]]
    moves: Callable[[Kernel, Options, Mapping[str, int]], tuple[Options, ...]]
    seconds: Callable[[Callable[[], object]], float]
    watched: Callable[[Any, KernelPlan], tuple[Any, Launches]]
    kernel_seconds: Callable[[Launches, Collection[str]], dict[str, float]]
    compiled_for: Callable[[str], str | None]


def target(backend: str) -> Target:
    """Raises BackendError for a backend that has nothing to tune."""
    if backend not in tuple(TARGETS):
        raise BackendError(f"nothing can be tuned for backend {backend!r}", hint=f"one of {', '.join(TARGETS)}")
    return TARGETS[backend]()


def _numpy() -> Target:
    from smir.backends.numpy_reference import tuning
    from smir.passes.analysis.select_form import NUMPY

    return Target(
        device=tuning.device_label,
        compiler=tuning.compiler_label,
        chunks=lambda form, shape, dtype: tuning.chunks(form, NUMPY.chunk_of(form, shape.tokens), shape.tokens),
        usual_options=lambda plan, sizes, chunk, dtype: {},
        moves=lambda kernel, options, sizes: (),
        seconds=tuning.seconds,
        watched=lambda runner, plan: (runner, ()),
        kernel_seconds=lambda launches, names: {},
        compiled_for=lambda device: None,
    )


def _triton() -> Target:
    from smir.backends.triton_gpu import tuning

    return Target(
        device=tuning.device_label,
        compiler=tuning.compiler_label,
        chunks=lambda form, shape, dtype: tuning.chunks(form, shape.sizes, shape.tokens, dtype),
        usual_options=tuning.usual_options,
        moves=lambda kernel, options, sizes: tuning.moves(kernel, dict(options), sizes),
        seconds=tuning.seconds,
        watched=tuning.watched,
        kernel_seconds=tuning.kernel_seconds,
        compiled_for=tuning.target_of,
    )


TARGETS: Mapping[str, Callable[[], Target]] = {"numpy": _numpy, "triton": _triton}
