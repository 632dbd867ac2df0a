"""Base model and adapter -> plain safetensors: `python -m workers.models.merge BASE ADAPTER TARGET LABEL...`.

workers.models.adapters runs it as a child process, so that torch is never loaded in the caller. Needs the
extra `engine`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from workers.models.child import end_incomplete
from workers.models.files import ModelIncompleteError


def main() -> None:
    """Merge the base and adapter in the first two arguments into the folder in the third.

    The other arguments are the labels of the classifier, in the order of its outputs.
    """
    if len(sys.argv) < 5:
        sys.exit("usage: python -m workers.models.merge BASE_FOLDER ADAPTER_FOLDER TARGET_FOLDER LABEL...")
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the folders; no hub may be contacted
    from workers.engines.adapter import merge

    try:
        base, adapter, target = map(Path, sys.argv[1:4])
        merge(base, adapter, target, sys.argv[4:])
    except ModelIncompleteError as error:
        end_incomplete(error)


if __name__ == "__main__":
    main()
