"""One call: what it is given, in which form it runs, and what makes its kernels ready.

- The arguments: `array_kinds` (numpy and torch behind one set of functions), `binding` and `binding_shapes` (a caller's
  arrays as canonical ones, and back), `autocast`, `packing` and `by_length` (packed sequences).
- The form: `form_costs`, and by them `form_choice`.
- Running: `execution` (the table of backends), `convolution`, and `prepared`, which remembers all of this.
"""
