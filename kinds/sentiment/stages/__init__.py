"""What the jobs of each stage do: collect documents, analyse them, compute windows, and write reports."""
