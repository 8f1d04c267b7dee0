"""Masks: from a masked operator over whole sequences to step equations. An index formula F(i, j) is split into factors
of i and of j, and each factor becomes a state.

- masks_to_states: the pass: masked operators rewritten as step equations
- index_formulas: how the entry (i, j) depends on i and j, and what it is at a given distance
- mask_factors: a formula as a sum of products that separate i from j
- kernel_states: the sum over j of F(t, j) x_j as reads of states
- position_angles: rotations by an angle that grows with the distance
"""
