"""The folder through which a worker and its training process talk; light, for whoever only looks."""

from __future__ import annotations

ORDER, DATA, CHECKPOINTS, RESULT = "order.json", "data", "checkpoints", "result"

EXIT_REFUSED = 3
"""The last event says why; any other status than 0 is a crash."""

RESULT_FILES = (
    "MODEL_CARD.md",
    "adapter_model.safetensors",
    "adapter_config.json",
    "classifier.json",
    "evaluation.json",
    "recipe.json",
)
"""In the order in which people read them."""
