"""Delivers messages to their targets: each at least once, and with the same id each time."""
