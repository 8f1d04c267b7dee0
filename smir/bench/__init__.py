"""`smir bench`: a mixer's times beside those of other people's kernels, and beside what the device could do.

Everything is measured in one run on the same inputs: `peers` says who computes the same mixer, `floors` the least that
the problem takes, `ceilings` what this device reaches; `run` measures, `pictures` draws.
"""
