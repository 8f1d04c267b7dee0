"""What a call goes on from and leaves behind, its `state`.

- `call_states`: the entries of a mixer's `state`; `scaled_states`: those that run as a mantissa and a log.
- `segments` and `packed_pasts`: calls that go on where another stopped; `stepping`: one token after the other.
- `pair_segments`: mixers whose state are the tokens themselves, in memory that grows (`token_cache`) or that a CUDA
  graph can hold (`fixed_cache`).
"""
