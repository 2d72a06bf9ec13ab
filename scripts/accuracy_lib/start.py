"""Starts the harness: it has modules in two folders, and neither is a package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "bench" / "lib"))
    sys.exit(importlib.import_module("accuracy").main())
