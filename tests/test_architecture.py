"""What may import what, and what must be there: the shape of the program, read from its source."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

import proctree_bpf
from proctree_bpf import compat

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(proctree_bpf.__file__).parent
NAME = PACKAGE.name

# Each layer may import the layers below it, and itself. Parts of one layer do not know each
# other; those above wire them together.
LAYERS = (
    {"errors"},
    {"core"},
    {"codecs", "filters"},
    {"streams", "sinks"},
    {"sources"},
    {"pipeline_ports"},
    {"intake"},
    {"repair"},
    {"pipeline", "filter_plan", "kernel_parent"},
    {"process"},
    {"process_tree", "event_stream"},
    {"collector"},
    {"compat"},
    {"cli"},
)
# What a folder may not import though it lies below.
KEPT_APART = {"sources": {"sinks"}, "streams": {"filters"}, "sinks": {"codecs", "filters"}}
PURE_PARTS = {"core", "codecs", "streams", "filters"}
# What the pure parts need of the standard library; anything that could reach the kernel,
# a clock or a file is missing here on purpose.
PURE = {
    *("__future__", "abc", "base64", "bisect", "cachetools", "collections", "contextlib"),
    *("dataclasses", "enum", "functools", "heapq", "itertools", "json", "math", "operator"),
    *(
        "fnmatch",
        "msgspec",
        "re",
        "shlex",
        "struct",
        "threading",
        "types",
        "typing",
        "unicodedata",
        "weakref",
        "zlib",
    ),
}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def layer_of(module: str) -> str:
    """Return the part of the package that a module belongs to; '' for the package itself."""
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every module that a file names in an import, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            module = node.module or ""
            yield module, node.lineno
            if module.count(".") < 2:  # "from proctree_bpf import core" names a part as well
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def parts() -> set[str]:
    return {layer_of(module_of(path)) for path in SOURCES} - {""}


def test_every_part_of_the_package_has_its_layer() -> None:
    assert parts() == set().union(*LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_go_one_way(path: Path) -> None:
    layer = layer_of(module_of(path))
    if not layer:
        return  # the package itself hands out what all the layers have
    height = next(index for index, names in enumerate(LAYERS) if layer in names)
    allowed = {layer}.union(*LAYERS[:height]) - KEPT_APART.get(layer, set())
    for name, line in imports_of(path):
        root, imported = name.split(".")[0], layer_of(name)
        if root == NAME and imported in parts():
            assert imported in allowed, f"{path}:{line} imports {name}"
        elif root == NAME:  # the package itself, which imports everything
            assert layer == "cli", f"{path}:{line} imports {name}"


def needed_by(path: Path, modules: set[str]) -> set[str]:
    """Return our modules that a file imports: of a folder, the files that it names."""
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)
    ]
    named = {(node.module or "", alias.name) for node in nodes for alias in node.names}
    return {f"{m}.{name}" if f"{m}.{name}" in modules else m for m, name in named} & modules


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Nor for types alone: who reads one file of a circle has to read them all."""
    modules = {module_of(path) for path in SOURCES} - {NAME}  # which hands out what they all have
    left = {module_of(path): needed_by(path, modules) for path in SOURCES}
    while free := {module for module, needed in left.items() if not needed & left.keys()}:
        left = {module: needed for module, needed in left.items() if module not in free}
    assert not left


FOLDERS = [path for path in SOURCES if path.name == "__init__.py" and path.parent != PACKAGE]


@pytest.mark.parametrize("path", FOLDERS, ids=module_of)
def test_every_folder_says_what_lives_there_and_what_may_not(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert len(text.split(".")) > 2 or layer_of(module_of(path)) == "cli"


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if layer_of(module_of(path)) in PURE_PARTS],
    ids=module_of,
)
def test_the_pure_parts_touch_nothing_outside(path: Path) -> None:
    for name, line in imports_of(path):
        assert name.split(".")[0] in {*PURE, NAME}, f"{path}:{line} imports {name}"


def test_the_pure_parts_never_open_a_file() -> None:
    for path in SOURCES:
        if layer_of(module_of(path)) not in PURE_PARTS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"open", "print", "input", "exec", "eval", "__import__"}


def test_bcc_is_imported_in_one_file_and_not_when_that_is_imported() -> None:
    importers = [
        path for path in SOURCES if any(name.split(".")[0] == "bcc" for name, _ in imports_of(path))
    ]
    assert [module_of(path) for path in importers] == [f"{NAME}.sources.loading.bcc_program"]
    tree = ast.parse(importers[0].read_text(encoding="utf-8"))
    at_the_top = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert "bcc" not in at_the_top


@pytest.mark.parametrize("module", [NAME, f"{NAME}.cli.app", f"{NAME}.sources.loading.bcc_program"])
def test_importing_us_does_not_import_bcc(module: str) -> None:
    script = f"import sys, {module}; sys.exit('bcc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_only_the_command_line_imports_typer() -> None:
    for path in SOURCES:
        for name, line in imports_of(path):
            if name.split(".")[0] in {"typer", "rich", "click"}:
                assert layer_of(module_of(path)) in {"cli", "sinks"}, f"{path}:{line}"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


# What other projects export has a name here, and so has what users of psutil look for.
PUBLIC = """
    snapshot snapshot_process_tree resolve handle_event handle_events is_descendant
    build_chain build_chain_links build_chain_string parse_chain_string
    children descendants siblings find_by_cmd find_by_user display tree_len
    parse_proc_entry read_proc_comm read_proc_start_time_ns uid_to_username
    PidNode ProcInfo ProcessLink Fork Exec Exit ProcEvent
    TreeStore CacheStore CacheParams PidTree ProcCache DefaultTree DefaultCache
    new_cache new_cache_with new_pid_tree new_pid_tree_with
    PROC_CACHE_CAP PROC_CACHE_TTL_SECS PID_TREE_CAP PID_TREE_TTL_SECS
    ProcWalker Collector start_proc_listener Process ProcessKey
"""


@pytest.mark.parametrize("name", PUBLIC.split())
def test_every_public_name_is_exported(name: str) -> None:
    assert hasattr(proctree_bpf, name)
    assert name in proctree_bpf.__all__ or name in compat.__all__


def test_what_is_new_has_few_names() -> None:
    assert len(proctree_bpf.__all__) <= 30


def test_all_that_is_exported_is_there_and_in_order() -> None:
    for names in (proctree_bpf.__all__, compat.__all__):
        assert all(hasattr(proctree_bpf, name) for name in names)
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted({*proctree_bpf.__all__, *compat.__all__}))
def test_every_public_function_and_class_has_a_docstring(name: str) -> None:
    value = getattr(proctree_bpf, name)
    if callable(value) and getattr(value, "__module__", "").startswith(NAME):
        assert value.__doc__


@pytest.mark.parametrize(
    ("owner", "methods"),
    [
        ("Process", "parent parents children is_running ppid name username exe cmdline pid"),
        ("Process", "creator creators exit_code exit_signal create_time key"),
        ("ProcessTree", "from_proc apply apply_all process find is_descendant children chain"),
        ("ProcWalker", "poll"),
        ("Collector", "__enter__ __exit__ start stop wait process find is_descendant events stats"),
        ("TreeStore", "get_node insert_node all_pids"),
        ("CacheStore", "get_info insert_info"),
    ],
)
def test_every_public_method_is_there(owner: str, methods: str) -> None:
    for method in methods.split():
        assert hasattr(getattr(proctree_bpf, owner), method)


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def commands() -> dict[str, Any]:
    """Return click's objects; typer brings its own click, so they have no type to name."""
    group: Any = typer.main.get_command(importlib.import_module(f"{NAME}.cli.app").app)
    return dict(group.commands)


COMMANDS = "trace tree chain children descendants siblings find is-descendant"


def test_every_command_is_there() -> None:
    assert set(COMMANDS.split()) <= set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_every_option_has_help(name: str) -> None:
    command = commands()[name]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name} has no help"
