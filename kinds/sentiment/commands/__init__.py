"""Commands of sentiment monitoring."""
