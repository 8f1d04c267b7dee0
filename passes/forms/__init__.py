"""Forms: from the mixer IR or the operator IR to one tile program for each legal form (step, scan, chunked, quadratic).

- legal_forms: every form that a mixer has, and the law that rules out each of the others
- lower_step: the step form: one token at a time, the equations as written
- step_scan: one scan of the step form: states, older values, and what it hands on
- lower_scan: the scan form: every state a recurrence along a chunk's rows
- lower_chunked: the chunked form: states are carried from chunk to chunk
- lower_quadratic: the quadratic form: every row chunk meets every other one
- chunk_algebra: one operator on one chunk: scores, what the carried state adds, the next state
- chunk_drives: what a state gets of those that drive it
- chunk_erase: the values that erasing writes really write, solved for a whole chunk
- chunk_stages: the states of a program on one chunk, and what is read of them
- pair_states: one operator between a row chunk and the other chunks, nearest first
"""
