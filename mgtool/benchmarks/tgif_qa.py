"""TGIF-QA, frame questions (Jang et al., 2017)."""

from __future__ import annotations

from mgtool.scoring.video_qa import VideoQa


class TgifQa(VideoQa):
    """Open questions about videos."""

    name = "tgif-qa"
    title = "TGIF-QA, frame questions"
