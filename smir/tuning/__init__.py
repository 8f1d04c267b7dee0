"""The tuner: which form, chunk size and launch options are fastest for calls of one kind, measured and remembered.

A call only reads (`lookup`): what this machine's user has tuned, else what is shipped for its device; without either
the rules of the cost model decide. `tune` measures: candidates run in a child process and are compared with float64
before their time counts; the best is written at once. Nothing here knows a backend; `targets` lists them.
"""
