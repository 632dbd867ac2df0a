"""Time series of an entity, as pure functions and types: novelty, windows, tests, alerts and backtests.

Everything is a function of the set of an entity's mentions and of an instant `as_of`: how the documents are
split into batches and in which order they arrive makes no difference. Nothing depends on documents published
after the end of the window that is judged.
"""
