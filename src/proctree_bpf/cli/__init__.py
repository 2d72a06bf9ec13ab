"""The command line: the only place that wires sources, tree and sinks together for people.

``app`` has the commands and turns every error into a sentence and an exit status; nothing
here may be imported by another part of the package.
"""

from proctree_bpf.cli.app import main

__all__ = ["main"]
