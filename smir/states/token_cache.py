"""The last tokens of inputs in memory that has room for more: a `state` that grows in place.

Appending costs what the new tokens cost: memory doubles when it is full, and where only the last tokens count, they
move to its front when it is full. What is read are views, oldest token first, without a copy.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext

from smir.calls.array_kinds import Array, module_of
from smir.errors import ArgumentError

DEFAULT_CAPACITY = 256


class TokenCache(Mapping[str, Array]):
    """A mapping from names to arrays `[B, n, ...]`, n alike for all; it is empty until the first tokens come.

    `capacity` is how many tokens have room at first. `step(..., inplace=True)` appends to it; everything else reads it
    as it reads any other `state`.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        check_capacity(capacity)
        self.capacity = capacity
        self.first, self.last = 0, 0
        self._memory: dict[str, Array] = {}
        self._plain: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name in self._plain:
            return self._plain[name]
        return self._memory[name][:, self.first : self.last]

    def __iter__(self) -> Iterator[str]:
        yield from (*self._memory, *self._plain)

    def __len__(self) -> int:
        return len(self._memory) + len(self._plain)

    def __repr__(self) -> str:
        return f"TokenCache({self.tokens} tokens of {', '.join(self._memory) or 'nothing yet'}, room for {self.room})"

    @property
    def tokens(self) -> int:
        """How many tokens it holds."""
        return self.last - self.first

    @property
    def room(self) -> int:
        """How many tokens its memory has room for."""
        return next((int(m.shape[1]) for m in self._memory.values()), self.capacity)

    def append(self, tokens: Mapping[str, Array], most: int | None = None) -> None:
        """Appends `[B, T, ...]` to every entry, and keeps the last `most` tokens (None: all) of each."""
        count = next(int(a.shape[1]) for a in tokens.values())
        if most is not None and count > most:
            tokens = {name: a[:, count - most :] for name, a in tokens.items()}
            count = most
        kept = self.tokens if most is None else min(self.tokens, max(0, most - count))
        first, self.first = self.first, self.last - kept
        try:
            self._make_room(tokens, count, most)
        except BaseException:
            self.first = first
            raise
        for name, a in tokens.items():
            self._memory[name][:, self.last : self.last + count] = a
        self.last += count

    def put(self, name: str, value: Array) -> None:
        """An entry that isn't of tokens."""
        self._plain[name] = value

    def _make_room(self, tokens: Mapping[str, Array], count: int, most: int | None) -> None:
        """Room for so many tokens behind the last one."""
        room, kept = self.room, self.tokens
        if self._memory and self.last + count <= room:
            return
        # half of the memory is free afterwards, so that each token moves once on average
        enough = 2 * (kept + count) if most is None else 2 * most + count
        if not self._memory or kept + count > room or (most is not None and room < enough):
            wanted = max(self.capacity, kept + count) if not self._memory else max(enough, room)
            fresh = {n: memory_like(a, (a.shape[0], wanted, *a.shape[2:])) for n, a in tokens.items()}
        else:
            fresh = self._memory
        # all copies are made before anything is overwritten: there may be no memory for one of them
        moved = {name: _own(self[name]) if fresh is self._memory else self[name] for name in self._memory}
        for name, values in moved.items():
            fresh[name][:, :kept] = values
        self._memory, self.first, self.last = fresh, 0, kept


def check_capacity(capacity: object) -> None:
    """Raises ArgumentError for what is no number of tokens."""
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
        raise ArgumentError(f"the capacity of a state is a positive number of tokens, not {capacity!r}",
                            hint="for example `new_state(capacity=4096)`")  # fmt: skip


def memory_like(a: Array, shape: tuple[int, ...], dtype: str | None = None) -> Array:
    """Memory beside an array, of its type where none is named: in inference mode too, one that may be written later."""
    library = module_of(a)
    kind = a.dtype if dtype is None else getattr(library, dtype)
    if library.__name__ == "numpy":
        return library.empty(shape, kind)
    with library.inference_mode(False) if library.is_inference_mode_enabled() else nullcontext():
        return library.empty(shape, dtype=kind, device=a.device)


def _own(a: Array) -> Array:
    """A copy: what moves inside one memory may overlap."""
    return a.copy() if module_of(a).__name__ == "numpy" else a.clone()
