"""The tree of errors.

MgtoolError                 anything mgtool says about its user's world; one line, no traceback
├── UsageError              options that are wrong or do not go together         exit code 2
├── InputError              an input that cannot be used as a whole              exit code 2
│   ├── RecordError         one line of a file that does not fit its schema
│   └── CheckpointError     weights that do not fit the model they are meant for
├── OutputError             an output that cannot be written or continued        exit code 2
│   └── ResumeError         an output that another run, with other options, began
├── MissingExtraError       an optional package that is not installed            exit code 2
└── ItemError               one item that cannot be used; becomes a `Failure`, never stops a run
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Literal, get_args

Reason = Literal[
    "missing",  # the file or member is not there
    "empty",  # no bytes
    "not_an_image",  # bytes that no decoder knows
    "truncated",  # a picture that ends too early
    "too_many_pixels",  # over the pixel limit
    "corrupt",  # a picture, video or array that its decoder refuses
    "bad_record",  # a line or member that does not fit its schema
    "bad_boxes",  # boxes that are not numbers or lie outside what they may
    "no_boxes",  # boxes were asked for and there are none
    "duplicate_id",  # an id that came before
    "unknown_id",  # an id that nothing else knows
    "empty_prompt",  # a question without text
    "prompt_too_long",  # more tokens than the model takes
    "out_of_memory",  # does not fit even alone
    "model_error",  # the model or detector failed on this item alone
    "unsupported",  # well-formed, but nothing here can use it
    "unreadable",  # the storage refused or failed
    "unreachable",  # the storage did not answer, which may pass: a second run asks again
]
Stage = Literal["read", "load", "detect", "pack", "unpack", "infer", "eval", "train"]
"""Where an item failed."""

UNREACHABLE: Reason = "unreachable"
"""The reason of failures that are no fault of the item."""
REASONS: tuple[str, ...] = get_args(Reason)


_USER = re.compile(r"(?<=://)[^\s/?#@'\"]+@")
_NAMES = r"[\w.-]*(?:token|signature|secret|password|credential|key)[\w.-]*|sig|auth"
_SECRET = re.compile(rf"""([?&](?:{_NAMES})=)[^&\s#'"]+?(?=:?(?:[&\s#'"]|$))""", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A text whose URLs have neither a user nor what stands for one among their parameters.

    >>> without_secrets("https://me:word@a.org/x.tar?part=1&X-Amz-Signature=ab: gone")
    'https://***@a.org/x.tar?part=1&X-Amz-Signature=***: gone'
    """
    if "://" not in text:
        return text
    return _SECRET.sub(r"\1***", _USER.sub("***@", text))


_STEERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def without_steering(text: str, *, keeps: str = "") -> str:
    """A text that does nothing to a terminal: what steers it or begins another line, and what is no text, as escapes.

    >>> print(without_steering("a" + chr(27) + "[2J" + chr(0xDCFF)))
    a\\x1b[2J\\udcff
    """
    return _STEERS.sub(lambda one: one[0] if one[0] in keeps else one[0].encode("unicode_escape").decode(), text)


class MgtoolError(Exception):
    """Base of all errors that are shown as one line, which holds no credentials."""

    exit_code = 2

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_secrets(one) if isinstance(one, str) else one for one in args))


class UsageError(MgtoolError):
    """An option that is wrong, or options that do not go together.

    In the text of every error a field of the options stands in backticks; the command line shows its flag there.

    Attributes:
        option: the field's name; empty where no one field is to blame.
        detail: its value, and what is wrong with it.
    """

    def __init__(self, option: str, detail: str) -> None:
        gap = "" if not option or detail.startswith(":") else " "
        super().__init__(f"`{option}`{gap}{detail}" if option else detail)
        self.option, self.detail = option, without_secrets(detail)

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, str]]:
        return UsageError, (self.option, self.detail)


class InputError(MgtoolError):
    """An input that cannot be used as a whole."""


class RecordError(InputError):
    """One record that does not fit its schema; the message names file, line and field."""


class CheckpointError(InputError):
    """Weights or a configuration that do not fit the model they are meant for."""


class OutputError(MgtoolError):
    """An output that cannot be written or continued."""


class ResumeError(OutputError):
    """An output that another run, with other options or inputs, began."""


class MissingExtraError(MgtoolError):
    """An optional package that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra: pip install 'mgtool[{extra}]'")
        self.what, self.extra = what, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return MissingExtraError, (self.what, self.extra)


class ItemError(MgtoolError):
    """One item that cannot be used.

    Attributes:
        reason: one of `REASONS`.
        detail: what exactly is wrong, in a few words.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = without_secrets(detail)

    def __reduce__(self) -> tuple[type[ItemError], tuple[Reason, str]]:
        return ItemError, (self.reason, self.detail)


def nearest(word: str, known: Iterable[str]) -> str:
    """A question after the known word that is spelt most alike, to end a message with; empty where none is alike.

    >>> nearest("persn", ["person", "cat"]), nearest("sofa", ["person", "cat"])
    ('; did you mean person?', '')
    """
    import difflib

    by_case = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(word.casefold(), by_case, n=1)
    return f"; did you mean {by_case[found[0]]}?" if found else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """All that is known, and then what `nearest` says of a word that is not.

    >>> one_of("jsnol", ["jsonl", "coco"])
    'jsonl, coco; did you mean jsonl?'
    """
    names = tuple(known)
    return f"{', '.join(names) or 'none'}{nearest(word, names)}"


def require(module: str, *, what: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Args:
        module: dotted name, for instance ``"onnxruntime"``.
        what: what needs it, for instance ``"`detector` nanodet"``.
        extra: the extra of mgtool that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise
        raise MissingExtraError(what, extra) from error
