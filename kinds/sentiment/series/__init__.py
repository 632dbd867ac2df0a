"""Time series of an entity: novelty, windows, statistical tests, alerts, backtests. Pure functions and types.

Everything is a function of the set of an entity's mentions and of an instant `as_of`: in which batches or in
which order the documents came makes no difference. Nothing looks past the end of the window it judges.
"""
