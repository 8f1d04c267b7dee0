"""Names that printed kernels take from elsewhere: the functions of the modules beside them, and their own variables."""

from collections.abc import Mapping

# By the module that is printed beside the kernels.
HELPERS: Mapping[str, tuple[str, ...]] = {
    "tiles": tuple(
        (
            "cross_pairs edge_row exp fold_inner fold_outer larger logaddexp place_row precise_product rotate "
            "running_sum running_sum_column running_sum_transposed scan_columns_back scan_rows scanned_sum segment_sum "
            "shift_columns shift_rows sigmoid smaller spread_inner spread_outer tanh turn_pairs widen"
        ).split()
    ),
    "level_tiles": tuple(
        (
            "level_mask level_product level_rows level_running_sum mirrored next_level pair_collect pair_distance "
            "pick_rows same_pair unit_inverse weighted_level_product"
        ).split()
    ),
}
# Variables of every kernel; `Names` keeps tensors and temporaries off them.
FIXED = frozenset(
    "time heads chunks CHUNK LEVELS PRODUCT WIDE PRECISION INVERSE_PRECISION PARTS program batch head chunk col_chunk "
    "row sequence here there start inside left col_start col_inside col_left level visited distance farthest".split()
) | frozenset(name for names in HELPERS.values() for name in names)
