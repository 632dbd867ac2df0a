"""A module that a test runs as a child process: it says that it runs, and ends with the process before it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    if sys.argv[1] == "allocate":
        bytearray(int(sys.argv[2]))
        sys.exit("there was no limit")
    Path(sys.argv[1]).write_text("runs")
    time.sleep(600)
