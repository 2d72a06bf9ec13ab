"""The forest: its program, the names under which it is executed, and a run of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from figures import NotRunError
from truth import Truth

_SOURCES = Path(__file__).parent / "forest"
_PROGRAMS = (
    b"oak", b"elm", b"ash", b"a b", b"\xff\xfe", b"semi;pipe|",
    b"a-name-of-more-than-fifteen-bytes", b"new\nline",
)  # fmt: skip
_SCRIPTS = {"script": "#!{0}/forest opt", "script-of-script": "#!{0}/script", "not-a-program": "?"}
_PATIENCE_S = 120.0
_DIRECTORY_BYTES = 900


def build(directory: Path) -> None:
    """Compile the forest into a directory that all may enter, with all that it executes.

    Raises:
        NotRunError: there is no C compiler.

    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotRunError("a C compiler is needed")
    if len(str(directory)) > _DIRECTORY_BYTES or len(str(directory).split()) != 1:
        raise NotRunError(f"{directory} is no place for it: its path must be short and plain")
    program = directory / "forest"
    command = [compiler, "-O2", "-pthread", "-o", str(program)]
    subprocess.run([*command, *map(str, sorted(_SOURCES.glob("*.c")))], check=True)
    for name in _PROGRAMS:
        os.link(bytes(program), bytes(directory) + b"/" + name)
    for file, text in _SCRIPTS.items():
        path = directory / file
        path.write_text(text.format(directory) + "\n", "ascii")
        path.chmod(0o755)
    directory.chmod(0o755)


class Forest:
    """The command that grows a forest, and where the truth of it is written."""

    def __init__(self, directory: Path, seed: int, size: int, pace_ms: int) -> None:
        self.file = directory / f"truth-{seed}"
        self.file.touch(exist_ok=False)
        self._began_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        numbers = (seed, size, pace_ms)
        program, truth = str(directory / "forest"), str(self.file)
        self.command = [program, truth, *map(str, numbers), str(directory)]

    def truth(self) -> Truth:
        """Return the truth of it, once it has grown.

        Raises:
            RuntimeError: something in it went wrong.

        """
        return Truth(self.file.read_bytes(), self._began_ns)

    def grow(self) -> None:
        """Run it to its end.

        Raises:
            RuntimeError: it failed.

        """
        running = subprocess.Popen(self.command)
        try:
            if running.wait(_PATIENCE_S):
                raise RuntimeError(f"the forest ended with {running.returncode}")
        finally:
            if running.poll() is None:
                running.kill()
                running.wait()
