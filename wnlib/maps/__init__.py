"""The cells of the maps that are swept (see wnlib.sweep): importable functions of parameters that JSON can hold.

complexity   recovery over measurements and columns (notebook sample_complexity)
frontier     the fewest measurements of each method (notebook sample_frontier)
trials       side by side, leaving once they are decided
"""
