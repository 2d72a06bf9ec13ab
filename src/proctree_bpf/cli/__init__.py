"""The command line: the only place that wires sources, tree and sinks together."""

from proctree_bpf.cli.app import main

__all__ = ["main"]
