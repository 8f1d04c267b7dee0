"""Tokens in memory of one size, counted on their device: a `state` with which one step is every step.

A step reads how many tokens came before from the tensor `position`, writes its own behind them, and adds their number.
The host knows neither, so nothing that it launches differs from token to token: a CUDA graph of a step can be replayed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from smir.calls.array_kinds import NUMPY, Array, kind_of, module_of
from smir.errors import ArgumentError
from smir.ir.segment import POSITION, past_of
from smir.passes.pairs.pair_cache import PairCache
from smir.states.token_cache import check_capacity, memory_like

Arrays = Mapping[str, Array]


class FixedCache(Mapping[str, Array]):
    """A mapping from the names of a state's entries to arrays; it is empty until the first tokens come.

    `capacity` is how many tokens there is room for; a mixer that looks back at a window has the room of the window, and
    no limit. Behind the last place outputs are NaN. `step(.., inplace=True)` appends to it; everything else reads it as
    any other `state`, which waits for the device.
    """

    def __init__(self, cache: PairCache, capacity: int) -> None:
        check_capacity(capacity)
        self.cache = cache
        self.room = capacity if cache.tokens is None else max(cache.tokens, 1)
        # tokens of the inputs that other positions read, in the first places of `[B, room, ...]`
        self.memory: dict[str, Array] = {}
        # the last tokens, in all places, of inputs that are read of earlier tokens only
        self.lines: dict[str, Array] = {}
        # how many tokens came before, a whole number on their device
        self.position: Array = None

    def __getitem__(self, name: str) -> Array:
        if name in self.memory:
            return self.memory[name][:, : int(self.position)]
        if name == POSITION and name in self._names:
            return self.position
        return self.lines[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._names

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"FixedCache(room for {self.room} tokens of {', '.join(self.memory) or 'nothing yet'})"

    @property
    def held(self) -> tuple[Array, ...]:
        """All arrays as they lie in memory; to know which tokens of them there are, one waits for the device."""
        return (*self.memory.values(), *self.lines.values())

    @property
    def has_begun(self) -> bool:
        """Whether there is memory."""
        return self.position is not None

    @property
    def _names(self) -> tuple[str, ...]:
        return self.cache.names if self.has_begun else ()

    def clear(self) -> None:
        """Begins another sequence in the same memory."""
        for a in (*self.lines.values(), *([self.position] if self.has_begun else [])):
            a[...] = 0

    def recent(self) -> dict[str, Array]:
        """The last tokens of the inputs that are read of earlier ones, zero before the first."""
        found = dict(self.lines)
        for name, held in ((n, self.memory[past_of(n)]) for n, _ in self.cache.delays if past_of(n) in self.memory):
            library, count = module_of(held), self.cache.longest(name)
            places = self._filled() - count + _numbers(held, count)
            there = (places >= 0).reshape(1, -1, *[1] * (held.ndim - 2))
            found[past_of(name)] = library.where(there, _take(held, library.clip(places, 0, None)), 0)
        return found

    def append(self, tokens: Arrays, lines: Arrays, y: Array) -> None:
        """Appends `[B, n, ...]` to the memory of every entry, and puts the last tokens of others in their place; `y` is
        what the tokens gave. Raises ArgumentError for first tokens that are more than there is room for.
        """
        count = int(y.shape[1])
        if not self.has_begun:
            self._begin(tokens, lines, y)
        for name, a in tokens.items():
            self._write(self.memory[name], a, count)
        for name, a in lines.items():
            self.lines[name][...] = a
        self.position += count

    def checked(self, y: Array) -> Array:
        """The output of the last tokens, NaN where they had no place: nobody waited to see it."""
        if self.cache.tokens is not None:
            return y
        return module_of(y).where(self.position > self.room, float("nan"), y)

    def _begin(self, tokens: Arrays, lines: Arrays, y: Array) -> None:
        count = int(y.shape[1])
        if self.cache.tokens is None and count > self.room:
            raise ArgumentError(f"{count} tokens in a state that has room for {self.room}",
                                hint="`new_state(capacity=4096, graph=True)`: it doesn't grow")  # fmt: skip
        self.memory = {n: memory_like(a, (a.shape[0], self.room, *a.shape[2:])) for n, a in tokens.items()}
        self.lines = {n: memory_like(a, tuple(a.shape)) for n, a in lines.items()}
        self.position = memory_like(y, (), "int64")
        self.position[...] = 0

    def _write(self, held: Array, new: Array, count: int) -> None:
        library = module_of(held)
        if self.cache.tokens is None:
            places = library.clip(self.position + _numbers(held, count), None, self.room - 1)
            _put(held, places, new)
        elif count >= self.room:
            held[...] = new[:, count - self.room :]
        else:
            held[...] = _take(library.concatenate([held, new], 1), self._kept(held, count))

    def _kept(self, held: Array, count: int) -> Array:
        """Where the last tokens are, oldest first, in a full memory with `count` tokens behind it."""
        library, filled = module_of(held), self._filled()
        ages = _numbers(held, self.room) + library.clip(filled + count - self.room, 0, None)
        behind = library.clip(ages - filled + self.room, None, self.room + count - 1)
        return library.where(ages < filled, ages, behind)

    def _filled(self) -> Any:
        return module_of(self.position).clip(self.position, None, self.room)


def _numbers(like: Array, count: int) -> Array:
    if kind_of(like) == NUMPY:
        return module_of(like).arange(count)
    return module_of(like).arange(count, device=like.device)


def _take(a: Array, places: Array) -> Array:
    """Tokens of these numbers."""
    return a[:, places] if kind_of(a) == NUMPY else a.index_select(1, places)


def _put(a: Array, places: Array, tokens: Array) -> None:
    if kind_of(a) == NUMPY:
        a[:, places] = tokens
    else:
        a.index_copy_(1, places, tokens.to(a.dtype))
