"""Pressroom's own commands, in one module per subject; pressroom/cli.py combines them."""
