"""The examples in docstrings are run as they are written."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import proctree_bpf

_FINDER = doctest.DocTestFinder(exclude_empty=True)


def modules() -> list[str]:
    found = pkgutil.walk_packages(proctree_bpf.__path__, "proctree_bpf.")
    names = [module.name for module in found if ".cli" not in module.name]
    return ["proctree_bpf", *(name for name in names if not name.endswith("__main__"))]


@pytest.mark.parametrize("name", modules())
def test_every_example_of_a_module_says_what_it_says(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner()
    for test in _FINDER.find(module, name):
        runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("name", ["Process", "ProcessTree", "Collector", "Filter", "EventStream"])
def test_what_people_use_has_an_example_that_runs(name: str) -> None:
    tests = _FINDER.find(getattr(proctree_bpf, name), name)
    examples = [example for test in tests for example in test.examples]
    assert examples
    assert not any(example.options.get(doctest.SKIP) for example in examples)
