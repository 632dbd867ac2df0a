"""Models: where they come from, how they are installed, and how what is installed is verified."""
