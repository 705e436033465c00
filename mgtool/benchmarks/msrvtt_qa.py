"""MSRVTT-QA (Xu et al., 2017)."""

from __future__ import annotations

from mgtool.scoring.video_qa import VideoQa


class MsrvttQa(VideoQa):
    """Open questions about videos."""

    name = "msrvtt-qa"
    title = "MSRVTT-QA"
