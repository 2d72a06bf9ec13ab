"""Bytes to values and back: BTF, samples, proc connector messages, ``/proc`` files, recordings.

Pure and without memory: nothing here keeps what it saw, and malformed input raises DecodeError and
nothing else.
"""
