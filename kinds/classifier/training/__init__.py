"""Fine-tuning as jobs: torch runs in a child process, whose checkpoints are kept in the object store.

The constants describe the folder through which a worker and its training process exchange files.
"""

from __future__ import annotations

SPEC, DATA, CHECKPOINTS, RESULT = "spec.json", "data", "checkpoints", "result"

EXIT_REFUSED = 3
"""Exit status of a refused training, whose last event has the reason; any other except 0 is a crash."""

RESULT_FILES = (
    "MODEL_CARD.md",
    "adapter_model.safetensors",
    "adapter_config.json",
    "classifier.json",
    "evaluation.json",
    "recipe.json",
)
"""Files of a result, in the order in which people read them."""
