"""Names that printed kernels take from elsewhere: the functions of the modules beside them, and their own variables."""

from collections.abc import Mapping

# By the module that is printed beside the kernels.
HELPERS: Mapping[str, tuple[str, ...]] = {
    "tiles": tuple(
        (
            "add_to_edge cross_pairs edge_row exp exp_of_product finite fold_inner fold_outer inner_product larger "
            "logaddexp place_row precise_product rotate running_sum running_sum_column running_sum_transposed "
            "scan_columns_back scan_rows scanned_sum segment_sum shift_columns shift_rows sigmoid smaller "
            "spread_inner spread_outer tanh turn_pairs valid_rows wide_product widen"
        ).split()
    ),
    "level_tiles": tuple(
        (
            "laid_out level_mask level_product level_rows level_running_sum mirrored next_level pair_collect "
            "pair_distance pick_rows precise_level_product same_pair weighted_level_product"
        ).split()
    ),
    "inverses": ("unit_inverse",),
}
# Variables of every kernel; `Names` keeps tensors and temporaries off them.
FIXED = frozenset(
    "time heads chunks CHUNK OWN LEVELS PRODUCT WIDE PRECISION INVERSE_PRECISION PARTS RAGGED program batch head "
    "chunk col_chunk row own_row sequence here there start inside left col_start col_inside col_left level visited "
    "distance part farthest whole".split()
) | frozenset(name for names in HELPERS.values() for name in names)
