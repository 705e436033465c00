"""Records under LLaVA's keys: which keys name pictures, videos, turns and questions, and what becomes of their values.

LLaVA's own conversations and questions; `messages` with `images` (chat templates, ms-swift, TRL), in texts or parts;
ShareGPT's `conversations` with `images`; `texts` of users and assistants (The Cauldron); `file_name` with a caption
(Hugging Face's image folders); and records that name their picture by one of the other keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from mgtool.errors import RecordError
from mgtool.media.placeholders import IMAGE, VIDEO

PICTURE_KEYS = (
    "image", "images", "image_path", "image_paths", "image_file", "image_files", "img", "imgs", "img_path",
    "image_url", "file_name", "file_names", "filename",
)  # fmt: skip
VIDEO_KEYS = ("video", "videos", "video_path")
TURN_KEYS = ("conversations", "messages", "texts")
QUESTION_KEYS = ("text", "question", "prompt", "query")
EXPECTED = f"expected one of {', '.join((*PICTURE_KEYS[:3], *VIDEO_KEYS[:1], *TURN_KEYS, *QUESTION_KEYS[:2]))}, ..."
_CAPTIONED = ("file_name", "file_names")
_NAMING = ("_file_name", "_file_names")
"""Ends of keys that name pictures in an image folder's metadata."""
_ID_KEYS = ("id", "question_id")
_VAGUE = frozenset({"image_id", "img_id", "picture", "photo", "video_id"})
"""Keys that point to a picture which nothing here can find."""

_SPEAKERS = {"user": "human", "human": "human", "assistant": "gpt", "gpt": "gpt", "system": "system"}
_PLACES = {"image": IMAGE, "image_url": IMAGE, "video": VIDEO, "video_url": VIDEO}
_NAME_KEYS = ("path", "url", "file_name", "image", "video", "image_url", "video_url")


def is_media(key: str) -> bool:
    """Whether a key of this name, in any case of letters, names pictures or videos."""
    return key.lower() in (*PICTURE_KEYS, *VIDEO_KEYS) or key.lower().endswith(_NAMING)


def is_known(key: str) -> bool:
    """Whether a key of this name, in any case of letters, names pictures or videos, or holds turns or a question."""
    return is_media(key) or key.lower() in (*TURN_KEYS, *QUESTION_KEYS)


def is_caption(fields: Mapping[str, Any]) -> bool:
    """Whether the `text` of a record is what its picture shows, and no question."""
    if "question_id" in fields:
        return False
    named = {key.lower() for key, value in fields.items() if value is not None}
    first = next((name for name in PICTURE_KEYS if name in named), "")
    return first in _CAPTIONED or (not first and any(name.endswith(_NAMING) for name in named))


def to_llava(fields: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record's fields under LLaVA's keys, and what else it says.

    Args:
        fields: JSON values.
        where: its place, for errors.

    Raises:
        RecordError: no picture, video or text, or one in a form that nothing here knows.
    """
    names = {key.lower(): key for key, value in reversed([*fields.items()]) if value is not None}
    chosen: dict[str, Any] = {key: fields[key] for key in _ID_KEYS if key in fields}
    pictures, video, said = (_first(fields, names, keys) for keys in (PICTURE_KEYS, VIDEO_KEYS, TURN_KEYS))
    pictures = pictures if pictures[0] else _first(fields, names, [name for name in names if name.endswith(_NAMING)])
    turns, inline, films = _turns(said[1], where)
    captioned = is_caption(fields)
    question = _first(fields, names, QUESTION_KEYS[1:] if captioned else QUESTION_KEYS)
    used = {*chosen, pictures[0], video[0], said[0], question[0]}
    used |= set() if captioned else {"text", "question"} & fields.keys()
    chosen["image"] = _media_names(pictures[1], f"{where}: {pictures[0]}") or inline or None
    chosen["video"] = _only(_media_names(video[1], f"{where}: {video[0]}") or films, where)
    chosen["conversations"], chosen["text"] = turns, question[1]
    _refuse_blank(chosen, fields, where)
    used |= {key for key, value in fields.items() if value is None and key.lower() in (*PICTURE_KEYS, *VIDEO_KEYS)}
    return chosen, {key: value for key, value in fields.items() if key not in used}


def _first(fields: Mapping[str, Any], names: Mapping[str, str], wanted: Sequence[str]) -> tuple[str, Any]:
    """The first of some keys that a record has a value for, in any case of letters; an empty key without one."""
    for name in wanted:
        if name in names:
            return names[name], fields[names[name]]
    return "", None


def _media_names(value: Any, where: str) -> list[str] | str | None:
    """Names as a record gives them: a text, an object with a path, or a list of these."""
    if isinstance(value, list):
        return [_name(one, f"{where}[{number}]") for number, one in enumerate(value)]
    return None if value in (None, "") else _name(value, where)


def _name(value: Any, where: str) -> str:
    if isinstance(value, dict):
        inner = next((value[key] for key in _NAME_KEYS if value.get(key) is not None), None)
        return _name(inner, where)
    if not isinstance(value, str) or not value:
        raise RecordError(f"{where}: expected the name of a picture or video, got `{type(value).__name__}`")
    return value


def _only(names: list[str] | str | None, where: str) -> str | None:
    if isinstance(names, list) and len(names) > 1:
        raise RecordError(f"{where}: {len(names)} videos in one record; give each a record of its own")
    if isinstance(names, list):
        return names[0] if names else None
    return names


def _turns(turns: Any, where: str) -> tuple[Any, list[str], list[str]]:
    """Turns in LLaVA's form, with the pictures and videos that stand among their parts."""
    if isinstance(turns, list) and turns and all(isinstance(turn, dict) and "user" in turn for turn in turns):
        pairs = ((turn["user"], turn.get("assistant")) for turn in turns)
        given = (("user", "assistant")[number] for _ in turns for number in (0, 1))
        flat = ({"role": role, "content": text} for role, text in zip(given, chain.from_iterable(pairs), strict=True))
        turns = [turn for turn in flat if turn["content"] is not None]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return turns, [], []
    media: dict[str, list[str]] = {IMAGE: [], VIDEO: []}
    found = []
    for number, turn in enumerate(turns):
        place = f"{where}: turn {number}"
        speaker = _SPEAKERS.get(turn["role"]) if isinstance(turn["role"], str) else None
        if speaker is None:
            raise RecordError(f"{place}: role {turn['role']}: expected one of {', '.join(_SPEAKERS)}")
        found.append({"from": speaker, "value": "".join(_parts(turn.get("content"), media, place))})
    return found, media[IMAGE], media[VIDEO]


def _parts(content: Any, media: Mapping[str, list[str]], where: str) -> Iterator[str]:
    """A turn's text; pictures and videos that are named in it go to `media`."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield part
            continue
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            yield part["text"]
        elif kind in _PLACES:
            named = {key: value for key, value in part.items() if key != "type" and value is not None}
            if named:
                media[_PLACES[kind]].append(_name(named, f"{where}: {kind}"))
            yield _PLACES[kind]
        else:
            raise RecordError(f"{where}: content is neither a text nor a list of texts, images and videos")


def _refuse_blank(chosen: Mapping[str, Any], fields: Mapping[str, Any], where: str) -> None:
    has_media = bool(chosen["image"] or chosen["video"])
    vague = [key for key, value in fields.items() if key.lower() in _VAGUE and isinstance(value, int | str)]
    says_none = any(key in fields for key in ("image", "video"))
    if not has_media and vague and not says_none and "conversations" not in fields:
        raise RecordError(f"{where}: `{vague[0]}` names no file; expected one of {', '.join(PICTURE_KEYS)}")
    if not has_media and not _says_anything(chosen):
        keys = ", ".join(f"`{key}`" for key in list(fields)[:8]) or "no field at all"
        raise RecordError(f"{where}: neither picture, video nor text in {keys}; {EXPECTED}")


def _says_anything(chosen: Mapping[str, Any]) -> bool:
    turns, text = chosen["conversations"], chosen["text"]
    if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        return any(turn.get("value") != "" for turn in turns)
    return bool(turns) or text not in (None, "")
