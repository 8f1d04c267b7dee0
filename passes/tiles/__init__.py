"""Tiles: what all lowerings share. Expressions of one token as tiles of a chunk, decays and rotations of a chunk, and
the rules that simplify a finished program.

- rowwise: per-token expressions on a chunk: a row for every token
- lanewise: the same with matrices: a token's K x V matrix is a row with all its entries as lanes
- tilewise: expressions of one token as tiles of the declared shape
- leaves: what a tile program loads, and what alone tells the size of an axis
- padding: what a tile holds in rows beyond the end of the sequence
- row_softmax: softmax over the columns of a tile, from basic operations
- rotation_tiles: sums of a chunk's angles, and vectors turned by them
- complex_pairs: two states that turn into each other, as one complex recurrence
- decay_tiles: prefixes, suffixes and totals of a chunk's decays, in log form, and running signs
- simplify_tiles: small algebraic rules, applied bottom up until nothing changes
"""
