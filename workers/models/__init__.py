"""Models: their sources, their installation, and the verification of installed files."""
