"""Where pictures and videos stand in a conversation, the same in training and in inference."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mgtool.errors import ItemError

Exchange = tuple[str, str | None]
"""A question with its placeholders, and its answer; None where the model is to give it."""

IMAGE, VIDEO = "<image>", "<video>"
PLACEHOLDER = re.compile(f"{IMAGE}|{VIDEO}")
BOTH = "a picture and a video in one sample; give each a sample of its own"
"""What is said of a sample that no prompt can show."""


def bare(text: str) -> str:
    """A text without its placeholders."""
    return PLACEHOLDER.sub("", text).strip()


def show_media(turns: Sequence[Exchange], *, pictures: int, is_video: bool = False) -> list[Exchange]:
    """The turns with one placeholder for each picture, or for the video.

    Where there is none, all stand before the first question. A question that shows one thing begins with it, as in
    the published training; one that shows several keeps them where they stand.

    Args:
        turns: questions with their placeholders, and their answers.
        pictures: number of pictures of the conversation.
        is_video: whether it has a video; conversations often call that an image, too.

    Raises:
        ItemError: ``bad_record`` where text and record do not agree, ``unsupported`` where there are both.
    """
    if is_video and pictures:
        raise ItemError("unsupported", BOTH)
    if is_video:
        turns = [(question.replace(IMAGE, VIDEO), answer) for question, answer in turns]
    wanted = [IMAGE] * pictures + [VIDEO] * is_video
    found = [place for question, _ in turns for place in PLACEHOLDER.findall(question)]
    if wanted and not found:
        (question, answer), *rest = turns
        return [("".join(f"{place}\n" for place in wanted) + question, answer), *rest]
    _refuse_others(found, wanted)
    return [(_begun(question), answer) for question, answer in turns]


def _refuse_others(found: list[str], wanted: list[str]) -> None:
    if sorted(found) != wanted:
        shown = f"{found.count(IMAGE)} pictures and {found.count(VIDEO)} videos"
        held = f"{wanted.count(IMAGE)} and {wanted.count(VIDEO)}"
        raise ItemError("bad_record", f"the text shows {shown}, the record has {held}")


def _begun(question: str) -> str:
    places = PLACEHOLDER.findall(question)
    return f"{places[0]}\n{bare(question)}" if len(places) == 1 else question
