"""The tests of this project on other kernels, with other Debian suites' programs, and in a VM.

It may use only what a system's own Python has, and nothing of ``proctree_bpf``: it is run before
anything is installed, and its plugin for pytest is run in the guests. README.md lists the files.
"""
