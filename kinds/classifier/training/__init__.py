"""Fine-tuning as jobs: torch runs in a child process, whose checkpoints are kept in the object store.

The constants describe how a worker and its training process exchange files and report errors.
"""

from __future__ import annotations

SPEC, DATA, CHECKPOINTS, RESULT = "spec.json", "data", "checkpoints", "result"

EXIT_REFUSED = 3
"""Exit status of a training process that ended with an error, which its last event reports.

Any other status except 0 means a crash.
"""

RESULT_FILES = (
    "MODEL_CARD.md",
    "adapter_model.safetensors",
    "adapter_config.json",
    "classifier.json",
    "evaluation.json",
    "recipe.json",
)
"""Names of a result's files; the model card comes first, because people start with it."""
