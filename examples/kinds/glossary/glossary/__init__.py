"""A kind with a table, two stages, a port and a command. It lists the terms of a set of texts."""
