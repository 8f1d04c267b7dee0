"""What torch adds to a call. These modules import torch, so a call imports them when tensors need them.

- `autograd`: a call and its gradients as a recorded operation; `second_derivatives`.
- `operators`: a call as one operator, for whatever traces it; `passes`: its passes; `packed`: with packed sequences;
  `steps`: a step of decoding.
"""
