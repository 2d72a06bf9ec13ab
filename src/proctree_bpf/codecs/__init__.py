"""Bytes to events and back. Pure; malformed input raises DecodeError and nothing else."""
