"""Analysis: what can be said about values and programs without running them. Ranges of the mixer IR, proofs that the
exponents of tile programs are bounded, and costs, by which a form is chosen.

- ranges: an interval for every value of the mixer IR, from the ranges that a spec promises
- exponents: an interval for every tile value, and a proof for every `exp` of a tile program
- maxima: proofs that a sum is never positive because it is relative to a maximum over itself
- exports: the values behind loads of what one scan hands on to another
- stops: tile programs without `stop`, the mark that only derivatives look at
- cost: operations, bytes and launches of a kernel plan in T, C and the dimensions
- tile_cost: operations of one tile operation, and elements of memory traffic
- select_form: the legal form that costs least at a call's sizes on a machine
"""
