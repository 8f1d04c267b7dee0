"""Bounds on what a spec may be. A spec is about ten lines: these only stop accidents and attacks."""

MAX_CHARACTERS = 50_000
MAX_STATEMENTS = 500
MAX_NAME = 64
MAX_DEPTH = 80  # of one expression, in operations; keeps every recursion far from Python's own limit
MAX_GRAPH_DEPTH = 200  # of the whole expression graph, local definitions included
MAX_OFFSET = 1024  # of a read at t-n: a delay line of that many values is part of the state
MAX_DIMENSION = 2**31 - 1
