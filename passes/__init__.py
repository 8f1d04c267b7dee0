"""Passes: pure functions from one IR to the next, one file a pass, in rooms by the stages of the compiler.

- masks: masked operators over whole sequences become step equations
- segments: what a mixer needs of the tokens before a segment, and who looks ahead
- stabilisation: unbounded exponential gates become relative to a running maximum
- recognition: step equations become operators, masks without states become pairs, constants convolutions
- forms: the tile program of every legal form
- pairs: the quadratic form of pairs of positions, and its gradients
- gradients: the backward pass of a tile program, and what is saved for it
- kernels: tile programs are cut into kernels that fit on chip

What the stages share:

- expressions: algebra on mixer-IR expressions, and the error for a broken law
- tiles: per-token expressions, decays and rotations as tiles of a chunk; simplification
- analysis: ranges, exponents, maxima, costs, and the choice of a form by cost

A room imports itself and the rooms before it in this order: analysis, expressions, masks, segments, stabilisation,
recognition, tiles, kernels, gradients, pairs, forms.
"""
