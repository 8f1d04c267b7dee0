"""Increasing functions from all numbers onto a promised range, and where they start."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from smir.ir.interval import Interval


def into(values: Tensor, promised: Interval) -> Tensor:
    """The values mapped into the range, increasing: sigmoid for two finite ends, softplus for one, none for none.

    At least in float32: a decay of 1 - 1/512 is 1 in bfloat16. An open end isn't reached by rounding either.
    """
    z = values if values.dtype == torch.float64 else values.float()
    below, above = math.isfinite(promised.lo), math.isfinite(promised.hi)
    if below and above:
        y = promised.lo + (promised.hi - promised.lo) * torch.sigmoid(z)
    elif below:
        y = promised.lo + F.softplus(z)
    elif above:
        y = promised.hi - F.softplus(-z)
    else:
        return values
    return _off_open_ends(y, promised)


def before(target: Tensor, promised: Interval) -> Tensor:
    """What `into` maps to these values strictly inside the range."""
    below, above = math.isfinite(promised.lo), math.isfinite(promised.hi)
    if below and above:
        return torch.logit((target - promised.lo) / (promised.hi - promised.lo))
    if below:
        return _softplus_inverse(target - promised.lo)
    return -_softplus_inverse(promised.hi - target) if above else target


def middle(promised: Interval) -> float:
    """A value in the midst of a range; one away from the end of a half-open line; 0 when there are no ends."""
    below, above = math.isfinite(promised.lo), math.isfinite(promised.hi)
    if below and above:
        return (promised.lo + promised.hi) / 2
    return promised.lo + 1 if below else promised.hi - 1 if above else 0.0


def near(end: float, distance: Tensor, promised: Interval) -> Tensor:
    """The values that lie these distances inside of an end; of an interval's width where that is finite."""
    width = promised.hi - promised.lo
    inwards = distance * width if math.isfinite(width) else distance
    return end - inwards if end == promised.hi else end + inwards


def _softplus_inverse(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))


def _off_open_ends(y: Tensor, promised: Interval) -> Tensor:
    """Open ends stay a rounding error away, in units of the end."""
    step = torch.finfo(y.dtype).eps
    if promised.lo_open and math.isfinite(promised.lo):
        y = y.clamp(min=promised.lo + step * max(1.0, abs(promised.lo)))
    if promised.hi_open and math.isfinite(promised.hi):
        y = y.clamp(max=promised.hi - step * max(1.0, abs(promised.hi)))
    return y
