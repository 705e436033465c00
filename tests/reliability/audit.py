"""What a release is made of: an SBOM (CycloneDX), known vulnerabilities where their data can be had, and hashes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

OUT = Path("out/audit")


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    sbom = OUT / "sbom.cdx.json"
    parts = components()
    sbom.write_text(json.dumps(document(parts), indent=1) + "\n")
    print(f"{sbom}: {len(parts)} components")
    if importlib.util.find_spec("pip_audit") is None:
        print("pip-audit is not installed (pip install pip-audit): known vulnerabilities were not looked up")
        code = 0
    else:
        command = [sys.executable, "-m", "pip_audit", "--format", "json", "--output", str(OUT / "vulnerabilities.json")]
        code = subprocess.run(command, check=False).returncode
    hashes = release_hashes(Path("dist"))
    (OUT / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in hashes.items()))
    print(f"{OUT / 'SHA256SUMS'}: {len(hashes)} release files of dist/ (python -m build makes them)")
    return code


def components() -> list[dict[str, Any]]:
    """Every installed distribution."""
    found = {}
    for one in metadata.distributions():
        name, version = one.metadata["Name"], one.version
        entry: dict[str, Any] = {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name.lower()}@{version}",
        }
        if licence := one.metadata.get("License-Expression"):
            entry["licenses"] = [{"expression": licence}]
        found[name.lower()] = entry
    return [found[name] for name in sorted(found)]


def document(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """A CycloneDX 1.5 document; the same for the same components."""
    own = next((part for part in parts if part["name"] == "mgtool"), None)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**(own or {"name": "mgtool"}), "type": "application"}},
        "components": [part for part in parts if part is not own],
    }


def release_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each release file."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
