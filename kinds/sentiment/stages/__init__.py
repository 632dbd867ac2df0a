"""The work of each stage's jobs: collect documents, analyse them, compute windows, and write reports."""
