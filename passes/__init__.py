"""Passes: pure functions from one IR to the next. Recognition, masks, forms, partitioning; one file a pass."""
