"""Published lists, numbered and immutable."""
