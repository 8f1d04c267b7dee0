"""Recognition: from step equations to the operator IR, from masked operators without states to the pair IR, and from
what is time-invariant to the convolution form.

- recognise: the pass to operators of known transition type, their reads, and a pointwise rest
- linear_form: a value as a state-free part plus linear terms in states
- state_updates: from the linear form of an update to decay, writes and erases
- read_outs: from an expression over states to reads `query^T S` and a pointwise rest
- driven_states: updates that take another state's whole value, times a number
- elementwise: recurrences that every entry of a state goes through on its own
- impulse_response: the pass to the convolution form: what is linear and time-invariant
- recognise_pairs: the pass to the pair IR: masked operators that don't factor into states
- pair_ratios: quotients of pair reads as softmax
- pair_weights: index formulas as weights: conditions of masks, logarithms, formulas of one position
- operators_to_pairs: recognised recurrences as sums over pairs, where states start at zero
"""
