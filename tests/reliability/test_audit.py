"""The list of what is installed, and the slopes of the long run."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import audit
import soak


def test_the_list_names_every_package_once_and_is_the_same_again(tmp_path: Path) -> None:
    parts = audit.components()
    document = audit.document(parts)
    assert document == audit.document(audit.components())
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == ("CycloneDX", "mgtool")
    urls = [part["purl"] for part in document["components"]]
    assert len(set(urls)) == len(urls)
    assert any(url.startswith("pkg:pypi/torch@") for url in urls)
    (tmp_path / "x.whl").write_bytes(b"x")
    assert audit.release_hashes(tmp_path) == {"x.whl": hashlib.sha256(b"x").hexdigest()}


def test_what_grows_is_told_from_what_does_not() -> None:
    looks = soak.Looks()
    for second in range(100):
        looks.seconds.append(float(second))
        looks.written.append(second)  # it counts from the 20th second on to the 94th: `WARM` and `DONE`
        looks.busy.append(float(second))
        for name, value in {"memory_mb": 3.0 * second, "handles": 9 + second % 2, "threads": 4, "temporary": 0}.items():
            looks.values[name].append(value)
    growth = looks.growth()
    assert growth["memory_mb"][0] == pytest.approx(3 * 74)
    assert abs(growth["handles"][0]) < 1
    assert growth["threads"] == pytest.approx((0, 0), abs=1e-9)
