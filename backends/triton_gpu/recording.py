"""What a launcher launches: kernels, grids and keywords, with or without running them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smir.backends.triton_gpu.runtime import Launch


@dataclass(frozen=True)
class KernelLaunch:
    """One launch of a jitted kernel."""

    name: str
    kernel: Any
    grid: tuple[int, ...]
    keywords: Mapping[str, Any]

    def again(self) -> None:
        self.kernel[self.grid](**self.keywords)


@dataclass(frozen=True)
class _Recorder:
    """Stands for a kernel in a launcher: keeps its launches, and makes them where `runs`."""

    name: str
    kernel: Any
    launches: list[KernelLaunch]
    runs: bool

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(**keywords: Any) -> None:
            self.launches.append(KernelLaunch(self.name, self.kernel, grid, keywords))
            if self.runs:
                self.kernel[grid](**keywords)

        return launch


def recorded(function: Any, kernels: Iterable[str], runs: bool, **others: Any) -> tuple[Any, list[KernelLaunch]]:
    """A printed `launch` function that writes its launches into the list; `others` replace names of its module."""
    module, launches = import_module(function.__module__), list[KernelLaunch]()
    recorders = {name: _Recorder(name, getattr(module, name), launches, runs) for name in kernels}
    scope = {**vars(module), **recorders, **others}
    found = type(function)(function.__code__, scope, None, function.__defaults__, function.__closure__)
    found.__kwdefaults__ = function.__kwdefaults__
    return found, launches


def recording(launch: "Launch", kernels: Iterable[str], runs: bool = True) -> "tuple[Launch, list[KernelLaunch]]":
    """The same for a plan that is ready to run; without `runs` it takes `meta` tensors too."""
    function, launches = recorded(launch.launch, kernels, runs)
    return replace(launch, launch=function, cold=[]), launches
