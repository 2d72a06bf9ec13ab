"""Runs a command of this package: ``python3 scripts/vm/vmtest matrix 5.10``, for example."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    # In place of this directory, whose modules are to be found in the package only.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.exit(importlib.import_module(f"vmtest.{sys.argv.pop(1)}").main())
