"""Measures what happens inside one process: ``worker.py TASK ARGUMENTS-AS-JSON``.

Run by the product's Python. Writes a figure a line to stdout, as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import query_cost
import scaling
import stage_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from figures import Figure


TASKS: dict[str, Callable[..., Iterator[Figure]]] = {
    "yardstick": stage_cost.yardstick_alone,
    "cpu": stage_cost.stages,
    "queries": query_cost.queries,
    "psutil": query_cost.beside_psutil,
    "proc": query_cost.reading_proc,
    "memory": scaling.memory,
    "scaling": scaling.by_size,
    "gaps": scaling.gaps,
}


def main() -> None:
    """Do a task."""
    arguments: dict[str, Any] = json.loads(sys.argv[2])
    for figure in TASKS[sys.argv[1]](**arguments):
        sys.stdout.write(json.dumps(asdict(figure)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
