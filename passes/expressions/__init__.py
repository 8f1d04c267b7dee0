"""Expressions: algebra on the mixer IR that several passes need, and the error that names the sub-expression which
leaves it.

- algebra: products as factors, matrices as sums of outer products and diagonals
- broken_laws: the error that says which sub-expression leaves the algebra
- decay_logs: a product of decay factors as `sign * e^log`, with logs of exponentials folded
- distribute: linear operations below sums: `(F + B).T @ q` becomes `F.T @ q + B.T @ q`
"""
