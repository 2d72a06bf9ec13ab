from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _kernel_tests_need_root(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("kernel") and os.geteuid() != 0:
        pytest.skip("not root: run the tests with sudo to execute the kernel tests")
