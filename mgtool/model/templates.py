"""Prompt templates: how a conversation becomes text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mgtool.errors import UsageError, one_of
from mgtool.media.placeholders import Exchange


class Piece(NamedTuple):
    """A stretch of a prompt that is tokenised by itself.

    Attributes:
        text: empty for a special token.
        special: ``bos``, ``eos`` or empty.
        learned: whether training has a loss on it.
        foreign: the parts of the text, in order, that are not the template's own words.
    """

    text: str = ""
    special: str = ""
    learned: bool = False
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class Template:
    """How the published models were asked (no system text in evaluation).

    Attributes:
        instruction: a user's turn up to where the answer begins; ``{input}`` is the turn.
        answer_end: text that closes an answer; empty where the EOS token does.
        separator: between turns.
        system: what stands before the first turn of a conversation with a system text, which is ``{system}``.
        opening: what stands before the first turn of any other.
        bos: whether a conversation begins with a BOS.
        answer_begin: what stands before an answer and is of it, as training had it; no question ends with it.
        joined: whether a conversation is tokenised as one text, in place of piece by piece.
    """

    instruction: str
    answer_end: str = ""
    separator: str = ""
    system: str = "{system} "
    opening: str = ""
    bos: bool = True
    answer_begin: str = ""
    joined: bool = False

    def __post_init__(self) -> None:
        if self.instruction.count("{input}") != 1:
            raise UsageError("template", f"{self.instruction!r} must hold {{input}} once")
        if self.system.count("{system}") != 1:
            raise UsageError("template", f": the system part {self.system!r} must hold {{system}} once")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts that end an answer beside EOS."""
        return (self.answer_end,) if self.answer_end else ()

    def pieces(self, turns: Sequence[Exchange], system: str = "") -> Iterator[Piece]:
        """The conversation as training and evaluation saw it: a BOS at the start and after every EOS.

        Args:
            turns: the last may be without an answer.
            system: stands before the first turn; nothing where it is empty.
        """
        begins = True
        before = self.system.replace("{system}", system) if system else ""
        opening = [Piece(self.opening)] if self.opening and not system else []
        for question, answer in turns:
            if begins and self.bos:
                yield Piece(special="bos")
            yield from opening
            foreign = (system, question) if before else (question,)
            yield Piece(before + self.instruction.replace("{input}", question), foreign=foreign)
            before, opening = "", []
            if answer is None:
                return
            said = self.answer_begin + answer + self.answer_end
            yield Piece(said, learned=True, foreign=(answer,))
            begins = not self.answer_end
            if begins:
                yield Piece(special="eos", learned=True)
            if self.separator:
                yield Piece(self.separator)

    def stretches(self, text: str, eos: str) -> Iterator[str]:
        """A rendered conversation in the texts that `pieces` gives, each of which is tokenised by itself.

        >>> list(Template("Q {input} A:", separator="!").stretches("Q who? A:me</s>!Q why? A:", "</s>"))
        ['Q who? A:', 'me</s>', '!', 'Q why? A:', '']
        """
        if self.joined:
            yield text
            return
        begins, end = self.instruction.split("{input}")[1], self.answer_end or eos
        *asked, last = text.split(begins) if begins else [text]
        for number, part in enumerate([one + begins for one in asked] + [last]):
            answer, ends, rest = part.partition(end) if number and end else ("", "", part)
            if ends:
                yield answer + ends
                rest = rest.removeprefix(self.separator)
                yield part[len(answer + ends) : len(part) - len(rest)]
            yield rest

    def to_jinja(self) -> str:
        """The same as a chat template of transformers."""
        before, after = (_said(text) for text in self.instruction.split("{input}"))
        begins, ends = (_said(text) for text in self.system.split("{system}"))
        starts = self.system.split("{system}")[0], self.opening, self.instruction.split("{input}")[0]
        texts = [_quoted(text) for text in starts]
        # a text that begins with it must not have it twice
        bos = "{{- bos_token if bos_token and not (%s).startswith(bos_token) else '' -}}"
        opening = f"({texts[1]} if loop.first else '') ~ {texts[2]}"
        bos = bos % f"{texts[0]} if message['role'] == 'system' else {opening}" if self.bos else ""
        first = "{%- if start.bos -%}" + bos + "{%- set start.bos = false -%}{%- endif -%}"
        opens = "{%- if loop.first -%}" + _said(self.opening) + "{%- endif -%}" if self.opening else ""
        return (
            "{%- set start = namespace(bos=true) -%}"
            "{%- for message in messages -%}"
            "{%- if message['role'] == 'system' -%}"
            f"{first}{begins}{_CONTENT}{ends}"
            "{%- elif message['role'] == 'user' -%}"
            f"{first}{opens}{before}{_CONTENT}{after}"
            "{%- elif message['role'] == 'assistant' -%}"
            f"{self._answer_in_jinja()}"
            "{%- endif -%}"
            "{%- endfor -%}"
        )

    def _answer_in_jinja(self) -> str:
        again = "{%- set start.bos = true -%}" if not self.answer_end else ""
        end = _said(self.answer_end) if self.answer_end else "{{- eos_token -}}"
        said = "{%- generation -%}" + _said(self.answer_begin) + _CONTENT + end + "{%- endgeneration -%}"
        return said + again + _said(self.separator)

    def to_dict(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


_CONTENT = (
    "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] in ('image', 'video') -%}{{- '<' ~ part['type'] ~ '>\\n' -}}"
    "{%- else -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
)
"""Of a message, in a chat template."""


def _said(text: str) -> str:
    """A text in a chat template."""
    return f"{{{{- {_quoted(text)} -}}}}" if text else ""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


_CHATML = Template(
    "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
    answer_end="<|im_end|>",
    separator="\n",
    system="<|im_start|>system\n{system}<|im_end|>\n",
)

TEMPLATES = {
    "vicuna": Template("USER: {input} ASSISTANT:", separator="\n"),
    "llama3_chat": Template(
        "<|start_header_id|>user<|end_header_id|>\n\n{input}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        answer_end="<|eot_id|>",
        system="<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>",
    ),
    "phi3_chat": Template(
        "<|user|>{input}<|end|>\n<|assistant|>\n",
        answer_end="<|end|>",
        separator="\n",
        system="<|system|>\n{system}<|end|>\n",
    ),
    "chatml": _CHATML,
    "yi_chat": _CHATML,
}


def find_template(spec: str | dict[str, Any]) -> Template:
    """A template by its name, by a JSON file with a `Template`'s fields, or by the fields themselves.

    Raises:
        UsageError: naming those there are, or the field that is wrong.
    """
    if isinstance(spec, str) and spec in TEMPLATES:
        return TEMPLATES[spec]
    where = spec if isinstance(spec, str) else "the model's template"
    if isinstance(spec, str) and not Path(spec).is_file():
        raise UsageError("template", f"{spec} is not known: choose a JSON file, or one of {one_of(spec, TEMPLATES)}")
    try:
        fields = json.loads(Path(spec).read_text(encoding="utf-8")) if isinstance(spec, str) else spec
        return Template(**fields)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            "template", f"{where} holds no template (instruction, answer_end, separator, system): {error}"
        ) from error


def told_apart(piece: Piece, special: re.Pattern[str]) -> list[tuple[str, bool]]:
    """A piece's text in stretches, and whether each is a special token of the template; what is foreign never is."""
    found: list[tuple[str, bool]] = [("", False)]

    def add(text: str, *, is_special: bool = False) -> None:
        if is_special or found[-1][1]:
            found.append((text, is_special))
        else:
            found[-1] = (found[-1][0] + text, False)

    def add_own(text: str) -> None:
        end = 0
        for match in special.finditer(text):
            add(text[end : match.start()])
            add(match[0], is_special=True)
            end = match.end()
        add(text[end:])

    rest = piece.text
    for text in piece.foreign:
        before, _, rest = rest.partition(text) if text else ("", "", rest)
        add_own(before)
        add(text)
    add_own(rest)
    return [(text, is_special) for text, is_special in found if text]
