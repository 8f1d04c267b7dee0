"""Gradients: from a tile program to its backward pass, again a tile program, and what the forward pass keeps for it.

- vjp: for every tile operation, the adjoints of its arguments
- ratios: quotients whose two sides are linear in the same rows, and the digits that their adjoints need
- averages: slots that hold averages of tokens, and the digits that the adjoint of a softmax over them needs
- differentiate: adjoints of leaves from seeds at the roots
- adjoint_program: the backward pass of a tile program: the same chunks, every scan also in reverse
- saved_values: what the forward pass keeps and what is computed again; the plans of a training step
"""
