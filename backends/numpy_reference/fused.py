"""Groups of tile operations that one numpy function computes faster than one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smir.backends.numpy_reference.tile_ops import level_scores
from smir.ir.graph import Node

Array = Any


@dataclass(frozen=True)
class LevelScores:
    """Scores between the rows of a chunk under a decay of every channel: `tile_ops.level_scores`."""

    query: Node
    key: Node
    log: Node
    reverse: bool
    exclusive: bool

    def compute(self, values: Mapping[Node, Array]) -> Array:
        """The scores from the values of query, key and log."""
        query, key, log = (values[n] for n in (self.query, self.key, self.log))
        return level_scores(query, key, log, self.reverse, self.exclusive)


def match_level_scores(node: Node) -> LevelScores | None:
    """Recognises level_sum(level_mask((q w) @ (k w)^T)) with w = exp(pair_distance(log))."""
    if node.op != "level_sum" or node.args[0].op != "level_mask":
        return None
    (mask,) = node.args
    (product,) = mask.args
    if product.op != "dot" or product.args[1].op != "transpose":
        return None
    left, right = product.args[0], product.args[1].args[0]
    if left.op != "mul" or right.op != "mul" or left.args[1] is not right.args[1]:
        return None
    weight = left.args[1]
    if weight.op != "exp" or weight.args[0].op != "pair_distance":
        return None
    distance = weight.args[0]
    if distance["reverse"] != mask["reverse"]:
        return None
    return LevelScores(left.args[0], right.args[0], distance.args[0], distance["reverse"], distance["exclusive"])
