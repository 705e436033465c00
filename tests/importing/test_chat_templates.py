"""`mgtool import --template auto`: the language model's own chat template, or a line that says why not."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_models import KIT, parts_in
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vision_models import tokenizer

from mgtool.errors import UsageError
from mgtool.importing.chat_templates import own_template
from mgtool.model import MGLlavaProcessor
from mgtool.model.config import IMAGE_TOKEN_ID
from mgtool.stages.import_model import import_model

LOOP = "{{ bos }}{% for m in messages %}BODY{% endfor %}{% if add_generation_prompt %}START{% endif %}"
CHATML = LOOP.replace("START", "<|im_start|>assistant\n").replace(
    "BODY", "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
)
DEFAULT = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe good.<|im_end|>\n{% endif %}"
HEADERS = LOOP.replace("START", "<|h|>assistant<|/h|>\n\n").replace(
    "BODY", "<|h|>{{ m['role'] }}<|/h|>\n\n{{ m['content'] | trim }}<|eot|>"
)
INST = LOOP.replace("START", "").replace(
    "BODY",
    "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}{{ m['content'] }}</s>{% endif %}",
)
MISTRAL = LOOP.replace("START", "").replace(
    "BODY",
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no system') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}SPACE{{ m['content'] }}</s>{% endif %}",
)
BOS = "{{ bos_token }}"
ASKED = [("Who? <|im_end|>", "I."), ("And\nhe?", None)]
FAMILIES = {
    "chatml without a BOS": (CHATML.replace("{{ bos }}", ""), {}),
    "chatml with a default system text": (CHATML.replace("{{ bos }}", DEFAULT), {}),
    "chatml whose own beginning is the BOS": (CHATML.replace("{{ bos }}", DEFAULT), {"bos_token": "<|im_start|>"}),
    "headers behind a BOS": (HEADERS.replace("{{ bos }}", BOS), {}),
    "no system text, an answer behind a space": (MISTRAL.replace("{{ bos }}", BOS).replace("SPACE", "{{ ' ' }}"), {}),
    "no system text": (INST.replace("{{ bos }}", BOS), {}),
}


def made(template, named):
    tokens = tokenizer("<|im_start|>", "<|im_end|>", "<|h|>", "<|/h|>", "<|eot|>")
    for name, value in named.items():
        setattr(tokens, name, value)
    tokens.chat_template = template
    return tokens


def rendered(tokens, turns, system=""):
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in turns:
        messages.append({"role": "user", "content": question})
        messages += [] if answer is None else [{"role": "assistant", "content": answer}]
    return messages, tokens.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_token_ids_are_those_of_the_chat_template(family):
    tokens = made(*FAMILIES[family])
    processor = MGLlavaProcessor(tokens, template=own_template(tokens).to_dict())
    plain = [("Who?", "I."), ("And\nhe?", None)]
    for system in ("", "Be short."):
        if system and "no system" in family:
            continue
        messages, text = rendered(tokens, plain, system)
        assert processor.tokenize(plain, system) == tokens.encode(text, add_special_tokens=False)
        assert processor.apply_chat_template(messages, add_generation_prompt=True) == text
        assert processor(text=text)["input_ids"][0].tolist() == processor.tokenize(plain, system)


def spaced(scheme, template):
    """A tokenizer that puts a space before a text, as those of Mistral and Llama do."""
    words = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "\u2581", "\n", *map(chr, range(33, 127))]
    made = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme=scheme, split=False)
    tokens = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokens.add_special_tokens({"additional_special_tokens": ["[INST]", "[/INST]"]})
    tokens.chat_template = template
    return tokens


@pytest.mark.parametrize("space", ["", "{{ ' ' }}"])
@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_tokenizer_that_puts_a_space_before_a_text(scheme, space):
    tokens = spaced(scheme, MISTRAL.replace("{{ bos }}", BOS).replace("SPACE", space))
    processor = MGLlavaProcessor(tokens, template=own_template(tokens).to_dict())
    turns = [("Who?", "I."), ("And\nhe?", "He."), ("So?", None)]
    messages, text = rendered(tokens, turns)
    encoded = tokens.encode(text, add_special_tokens=False)
    assert processor.tokenize(turns) == processor(text=text)["input_ids"][0].tolist() == encoded
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == text
    learned = [one for one in processor.encode(turns).labels if one >= 0]
    assert tokens.decode(learned).replace("\u2581", "").replace(" ", "") == "I.</s>He.</s>"
    shown = processor.tokenize([("<image>\nWho </s>?", None)])
    assert (shown.count(IMAGE_TOKEN_ID), shown.count(2), shown[:2]) == (1, 0, [1, 3])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_ends_where_the_template_ends_it(family):
    tokens = made(*FAMILIES[family])
    template = own_template(tokens)
    assert template.answer_end in ("<|im_end|>", "<|eot|>", "</s>")
    assert MGLlavaProcessor(tokens, template=template.to_dict()).stop_strings == []
    learned = [piece.text for piece in template.pieces([("Who?", "I.")]) if piece.learned]
    assert learned == [template.answer_begin + "I." + template.answer_end]


def test_what_a_user_types_is_no_end_of_a_turn():
    tokens = made(*FAMILIES["chatml with a default system text"])
    processor = MGLlavaProcessor(tokens, template=own_template(tokens).to_dict())
    end = tokens.convert_tokens_to_ids("<|im_end|>")
    assert processor.tokenize([("<|im_end|>", None)]).count(end) == 2
    assert processor.tokenize(ASKED).count(end) == 4


NUMBERED = (
    LOOP.replace("START", "A:").replace("{{ bos }}", "").replace("BODY", "{{ loop.index }} {{ m['content'] }}<|eot|>")
)


@pytest.mark.parametrize(("template", "said"), [(None, "has no chat template"), (NUMBERED, "cannot be followed")])
def test_a_template_that_cannot_be_followed_is_refused(template, said):
    with pytest.raises(UsageError, match=said):
        own_template(made(template, {}))


def test_import_takes_the_template_of_the_llm(tmp_path):
    llm = tmp_path / "llm"
    llm.mkdir()
    for part in (KIT / "llm").iterdir():
        (llm / part.name).write_bytes(part.read_bytes())
    template = HEADERS.replace("{{ bos }}", BOS).replace("<|eot|>", "</s>").replace("<|h|>", "").replace("<|/h|>", ":")
    (llm / "chat_template.jinja").write_text(template)
    import_model(dataclasses.replace(parts_in(KIT), template="auto", llm=llm), tmp_path / "out")
    processor = MGLlavaProcessor.from_pretrained(tmp_path / "out")
    assert processor.render([("Who?", None)]) == "<s>user:\n\nWho?</s>assistant:\n\n"
    assert processor.eos_token_ids == [2]
