"""What a reader of the README has at hand: the examples, and small weights in the place of the published ones."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def furnish(folder: Path) -> None:
    """Put `examples/` and the downloaded `parts/` into a folder, as links."""
    (folder / "examples").symlink_to(ROOT / "examples")
    parts = folder / "parts"
    parts.mkdir()
    for name in ("mg_llava.pth", "llm", "clip", "convnext"):
        (parts / name).symlink_to(ROOT / "tests/conformance/mg_llava" / name)
    for name in ("ram_plus_tiny.pth", "config.json", "ram_tag_list.txt", "ram_tag_list_threshold.txt"):
        published = name.replace("ram_plus_tiny", "ram_plus_swin_large_14m")
        (parts / published).symlink_to(ROOT / "tests/conformance/ram_plus" / name)
