"""Fine-tuning as jobs: torch runs in a child process, whose checkpoints are kept in the object store."""
