"""Segments: what a mixer has to remember to go on where a sequence stopped, and who can't.

- lookahead: which part of a spec reads later positions, so that no segment can be computed before the next is known
- delays: older inputs and states, read at `[t-n]`, as states or as inputs of their own
"""
