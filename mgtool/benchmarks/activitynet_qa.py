"""ActivityNet-QA (Yu et al., 2019)."""

from __future__ import annotations

from mgtool.scoring.video_qa import VideoQa


class ActivitynetQa(VideoQa):
    """Open questions about videos."""

    name = "activitynet-qa"
    title = "ActivityNet-QA"
