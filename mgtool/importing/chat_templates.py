"""A language model's own chat template as a prompt template, proven on conversations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jinja2

from mgtool.errors import UsageError
from mgtool.media.placeholders import Exchange
from mgtool.model.processor import MGLlavaProcessor
from mgtool.model.templates import Template

_USER, _ANSWER, _LATER, _SYSTEM = "Qone7", "Aone7", "Qtwo7", "Stext7"
_PROOFS: tuple[tuple[Sequence[Exchange], str], ...] = (
    ([("What is it?", None)], ""),
    ([("What is it?", "A cup."), ("Is it red?", None)], ""),
    ([("What is it?", "A cup."), ("Is it red?", "No."), ("Sure?", None)], ""),
)
_SYSTEM_PROOFS = tuple((turns, "Answer in one word.") for turns, _ in _PROOFS)


def own_template(tokenizer: Any) -> Template:
    """The template whose token ids are those of a tokenizer's chat template, without pictures.

    Raises:
        UsageError: the tokenizer has none, or one that no `Template` follows.
    """
    if not isinstance(getattr(tokenizer, "chat_template", None), str):
        raise UsageError("template", "auto: the tokenizer of `llm` has no chat template: name one of the templates")
    try:
        found, takes_system = _derived(tokenizer)
    except (jinja2.TemplateError, ValueError, TypeError, KeyError) as error:
        raise _unlike(f"it refuses a plain conversation: {str(error).splitlines()[0][:120]}") from error
    proofs = (*_PROOFS, *(_SYSTEM_PROOFS if takes_system else ()))
    # many tokenizers put a space before a text, and so before each piece of it
    for template in (found, replace(found, joined=True)) if tokenizer.is_fast else (found,):
        if all(_holds(template, tokenizer, *proof) for proof in proofs):
            return template
    raise _unlike("turns of it are not all alike")


def _holds(template: Template, tokenizer: Any, turns: Sequence[Exchange], system: str) -> bool:
    """Whether a conversation's token ids are those of the chat template."""
    found = MGLlavaProcessor(tokenizer, template=template.to_dict()).tokenize(turns, system)
    return bool(found == tokenizer.encode(_rendered(tokenizer, turns, system), add_special_tokens=False))


def _derived(tokenizer: Any) -> tuple[Template, bool]:
    """What a chat template puts around questions, answers and a system text; whether it takes the last."""
    alone = _rendered(tokenizer, [(_USER, None)])
    opening, instruction_end = _around(alone, _USER)
    longer = _rendered(tokenizer, [(_USER, _ANSWER), (_LATER, None)])
    answer_begin = _between(longer, _USER, _ANSWER).removeprefix(instruction_end)
    between = _between(longer, _ANSWER, _LATER)
    end, between = _answer_end(tokenizer, between)
    instruction = _common_end(opening, between)
    separator = between.removesuffix(instruction)
    opening, bos = _without_bos(tokenizer, opening.removesuffix(instruction), instruction)
    system = _system(tokenizer, instruction)
    fields: dict[str, Any] = {"opening": opening, "bos": bos, "answer_end": end, "separator": separator}
    fields |= {"answer_begin": answer_begin} if answer_begin else {}
    if system is not None:
        fields["system"] = _without_bos(tokenizer, system, instruction)[0]
    return Template(instruction + "{input}" + instruction_end, **fields), system is not None


def _answer_end(tokenizer: Any, between: str) -> tuple[str, str]:
    """The special token that closes an answer, and what follows it up to the next question."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    specials = sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)
    match = re.match("|".join(map(re.escape, specials)), between.lstrip())
    if match is None:
        raise ValueError("no special token closes an answer")
    begin = between.index(match[0])
    return between[: begin + len(match[0])], between[begin + len(match[0]) :]


def _system(tokenizer: Any, instruction: str) -> str | None:
    """What stands before the first question of a conversation with a system text; None where that is refused."""
    try:
        before, _ = _around(_rendered(tokenizer, [(_USER, None)], _SYSTEM), _USER)
    except (jinja2.TemplateError, ValueError):
        return None
    if before.count(_SYSTEM) != 1 or not before.endswith(instruction):
        return None
    return before.removesuffix(instruction).replace(_SYSTEM, "{system}")


def _without_bos(tokenizer: Any, text: str, instruction: str) -> tuple[str, bool]:
    """A beginning less the BOS in front, and whether there was one that turns do not begin with themselves."""
    bos = tokenizer.bos_token
    if not bos or instruction.startswith(bos) or not (text + instruction).startswith(bos):
        return text, False
    return text.removeprefix(bos), True


def _rendered(tokenizer: Any, turns: Sequence[Exchange], system: str = "") -> str:
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in turns:
        messages.append({"role": "user", "content": question})
        messages += [] if answer is None else [{"role": "assistant", "content": answer}]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def _around(text: str, part: str) -> tuple[str, str]:
    before, found, after = text.partition(part)
    if not found:
        raise ValueError("it changes what a user says")
    return before, after


def _between(text: str, first: str, second: str) -> str:
    return _around(_around(text, first)[1], second)[0]


def _common_end(one: str, other: str) -> str:
    """The longest text with which both end."""
    length = next((at for at, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b), None)
    length = min(len(one), len(other)) if length is None else length
    return one[len(one) - length :]


def _unlike(why: str) -> UsageError:
    detail = "auto: the chat template of `llm` cannot be followed"
    return UsageError("template", f"{detail} ({why}): name one of the templates, or a JSON file with one")
