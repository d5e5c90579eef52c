"""Published dark-pool allocators: learning rules on plain arrays, the game that tests them, the routers around them.

A rule keeps `state`, (2, P, L) float64 for P pools and L lots, and has two functions: `split` writes how many lots each
pool is sent, `learn` reads what was sent and what was filled. `value` (P,) is the net value of a filled lot in any one
unit; a pool of value <= 0 is closed and gets nothing.
"""
