"""Kernels: from a tile program to a kernel plan. Programs are cut by what depends on carried states, and until every
kernel fits on chip.

- partition: the pass: a program cut by what depends on carried states
- partition_pairs: the same for programs on pairs of chunks, which loop over column chunks
- affine_carries: rows that scans take through a chunk, left with one product and one sum in the loop over chunks
- on_chip: walks over chunks that also write the output, so that no kernel reads a state before a chunk
- lines: columns, rows and numbers that a walk would wait for
- buffer_types: in which type values cross from one kernel to the next
- crossing: which values one kernel stores for the next, and which are computed again
- axis_roles: which axes may be cut into blocks that run in parallel
- fit_outputs: kernels that write many results, made to fit on chip
- level_kernels: sums over binary levels apart from what is made of them
- split_outputs: the parallel work on many outputs, cut into several kernels
- joined_outputs: results made from the start instead, where registers hold what that takes
- time_segments: walks along a sequence cut into segments that are walked at once
- affine_moves: what a chunk makes of a carried tile
- wide_exponents: products with parameters that exponents are made of, in float64 where inputs are float32
- wide_divisors: what divisors that may cancel are made of, in float64 where inputs are float32
- sums_apart: sums over a sequence apart from the loop that makes their summands
"""
