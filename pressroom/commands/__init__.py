"""The commands, grouped by what they are about; pressroom/cli.py puts them together."""
