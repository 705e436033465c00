"""MSVD-QA (Xu et al., 2017)."""

from __future__ import annotations

from mgtool.scoring.video_qa import VideoQa


class MsvdQa(VideoQa):
    """Open questions about videos."""

    name = "msvd-qa"
    title = "MSVD-QA"
