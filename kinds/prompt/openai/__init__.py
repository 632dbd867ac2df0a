"""OpenAI batch files: their lines are requests, and their results are output and error lines."""
