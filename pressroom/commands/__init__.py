"""The commands, grouped by subject; pressroom/cli.py combines them."""
