"""Pairs: the quadratic form of the pair IR, sums over pairs of a chunk of rows and a chunk of columns, and its backward
pass.

- lower_pairs: the pass: every row chunk meets itself, then earlier and later column chunks
- pair_tiles: index formulas as tiles of a chunk of rows (i) and a chunk of columns (j)
- pair_terms: what one pair of chunks adds to a read
- pair_distances: the distances that a mask admits, and comparisons that they settle
- pair_sides: whose tokens a tile is made of, and the largest parts that belong to one side
- pair_segment: a segment of a sequence
- pair_delays: delayed inputs of a segment as inputs of their own
- pair_cache: what a caller keeps of the tokens before it
- pair_adjoint: the backward pass, in which no two programs write one place
- pair_training: the two plans of a training step on pairs of chunks
"""
