"""Stabilisation: step equations with unbounded exponential gates rewritten relative to running maxima, from mixer IR to
mixer IR.

- stabilise: the pass: states with unbounded gates, made relative to a running maximum
- scaled: scaled arithmetic: every value is a core times e^scale
- scales: logs of factors that are kept apart from values, and the largest of several
"""
