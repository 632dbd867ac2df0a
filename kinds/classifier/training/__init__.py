"""Fine-tuning as jobs: torch runs in a child process, whose checkpoints live in the object store."""
