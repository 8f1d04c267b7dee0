"""Tokens before others in packed sequences, on the device of `cu_seqlens` and without waiting for it (torch alone)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from smir.calls.array_kinds import Array, convert, device_of, dtype_of, module_of


@dataclass(frozen=True)
class PackedRows:
    """Which tokens of one row of `tokens` belong to which sequence."""

    cu_seqlens: Array
    tokens: int

    def delayed(self, x: Array, past: Array | None, age: int, count: int) -> Array:
        """Each token's value `age` tokens before it in its own sequence, `[1, T, ...]`.

        `past` `[N, count, ...]` has the tokens before each sequence, oldest first; without one they are zero.
        """
        before = self._owners * count + count + self._places - age
        own = self._sequences * count + self._numbers - age
        return self._chosen(x, past, count, self._places >= age, own, before)[None]

    def last(self, x: Array, past: Array | None, count: int) -> Array:
        """The last `count` tokens of each sequence, those before it among them, `[N, count, ...]`."""
        torch = module_of(x)
        ends, steps = self.cu_seqlens[1:, None], torch.arange(-count, 0, device=x.device)
        places = ends - self.cu_seqlens[:-1, None] + steps
        rows = torch.arange(self._sequences, device=x.device)[:, None]
        own, before = self._sequences * count + ends + steps, rows * count + count + places
        found = self._chosen(x, past, count, (places >= 0).ravel(), own.ravel(), before.ravel())
        return found.reshape(self._sequences, count, *x.shape[2:])

    def _chosen(self, x: Array, past: Array | None, count: int, is_own: Array, own: Array, before: Array) -> Array:
        """Rows of the pasts of all sequences and of the tokens behind them."""
        torch, shape = module_of(x), (self._sequences * count, *x.shape[2:])
        held = x.new_zeros(shape) if past is None else convert(past, "torch", dtype_of(x), device_of(x)).reshape(shape)
        return torch.cat([held, x[0]]).index_select(0, torch.where(is_own, own, before))

    @property
    def _sequences(self) -> int:
        return int(self.cu_seqlens.shape[0]) - 1

    @cached_property
    def _numbers(self) -> Any:
        torch = module_of(self.cu_seqlens)
        return torch.arange(self.tokens, device=self.cu_seqlens.device)

    @cached_property
    def _owners(self) -> Any:
        """The sequence of each token."""
        torch = module_of(self.cu_seqlens)
        return torch.searchsorted(self.cu_seqlens[1:].contiguous().long(), self._numbers, right=True)

    @cached_property
    def _places(self) -> Any:
        """The number of each token in its sequence."""
        return self._numbers - self.cu_seqlens.long().index_select(0, self._owners)
