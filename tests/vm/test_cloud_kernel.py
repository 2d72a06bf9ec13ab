"""Which of a suite's kernels is booted."""

from __future__ import annotations

import pytest

from vmtest.cloud_kernel import newest_image

BACKPORTS = [
    f"linux-image-{version}-cloud-amd64"
    for version in (
        "6.18.5+deb13", "6.18.15+deb13", "6.18.9+deb13", "6.19.14+deb13", "6.1.90", "7.3.4+deb13",
    )
]  # fmt: skip


@pytest.mark.parametrize(
    ("series", "newest"),
    [
        ("6.18", "linux-image-6.18.15+deb13-cloud-amd64"),
        ("6.1", "linux-image-6.1.90-cloud-amd64"),
        ("7.2", "linux-image-7.3.4+deb13-cloud-amd64"),
    ],
)
def test_it_is_the_newest_of_its_series_or_else_the_newest_of_all(series: str, newest: str) -> None:
    assert newest_image(series, BACKPORTS) == newest
