"""`--model hf:PATH`: every family answers as transformers' own `generate` does for one question at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    GenerationConfig,
)
from vision_models import FAMILIES, SHARING, TAKE_VIDEOS

import mgtool
from mgtool.errors import CheckpointError, InputError, UsageError
from mgtool.inference.static_engine import StaticEngine
from mgtool.media import videos

PHOTOS = Path(__file__).parent.parent / "images"
NAMES = ("china.jpg", "coffee.jpg")
QUESTIONS = ("What is this?", "Is there a cup on the table, and of what colour is it?", "Why?")
TOKENS = 6
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # PaliGemma's processor
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),  # InternVL's, before 5.19
    pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning"),  # Mllama's encoder, until 5.19
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saves a family's model, once."""
    saved: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in saved:
            saved[name] = tmp_path_factory.mktemp(name)
            for part in FAMILIES[name]():
                part.save_pretrained(saved[name])
        return saved[name]

    return save


@pytest.fixture(scope="module")
def film(tmp_path_factory, write_video):
    """A bright square that moves."""
    frames = np.full((20, 48, 64, 3), 40, np.uint8)
    for place, frame in enumerate(frames):
        frame[10:30, 2 * place : 2 * place + 20] = 220
    path = tmp_path_factory.mktemp("films") / "moving.mp4"
    path.write_bytes(write_video(list(frames)))
    return path


def ask(folder, records, tmp_path, **options):
    """Answers, and failures, of `mgtool.answers`."""
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(record) + "\n" for record in records))
    wanted = {"images": str(PHOTOS), "device": "cpu", "max_new_tokens": TOKENS, "logprobs": True} | options
    return list(mgtool.answers([questions], mgtool.InferOptions(model=f"hf:{folder}", **wanted)))


def tokens(answer):
    return [one["token"] for one in answer.metadata["logprobs"]]


class Reference:
    """The processor and `generate` alone."""

    def __init__(self, folder):
        self.processor = AutoProcessor.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        is_known = type(config) in AutoModelForImageTextToText._model_mapping
        kind = AutoModelForImageTextToText if is_known else AutoModelForMultimodalLM
        self.model = kind.from_pretrained(folder, dtype=torch.float32).eval()

    def tokens(self, content, earlier=(), **given):
        messages = [*earlier, {"role": "user", "content": content}]
        if self.processor.chat_template is None and self.processor.tokenizer.chat_template is not None:
            picture, text = content
            asked = [{"role": "user", "content": self.processor.image_token + text["text"]}]
            prompt = self.processor.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            options = {"add_special_tokens": False, "return_tensors": "pt"}
            inputs = self.processor(text=prompt, images=picture["image"], **options)
        elif self.processor.chat_template is None:
            picture, text = content
            inputs = self.processor(text="<image>" + text["text"], images=picture["image"], return_tensors="pt")
        else:
            options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
            inputs = self.processor.apply_chat_template(messages, **options, processor_kwargs=given)
        inputs.pop("labels", None)
        out = self.model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS)
        return self.processor.tokenizer.convert_ids_to_tokens(out[0, inputs["input_ids"].shape[1] :])


def picture(name):
    return {"type": "image", "image": Image.open(PHOTOS / name).convert("RGB")}


def text(words):
    return {"type": "text", "text": words}


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_generate_one_by_one(name, folder, tmp_path):
    path = folder(name)
    asked = [(photo, question) for question in QUESTIONS for photo in NAMES]
    records = [{"question_id": at, "image": photo, "text": words} for at, (photo, words) in enumerate(asked)]
    reference = Reference(path)
    expected = [reference.tokens([picture(photo), text(words)]) for photo, words in asked]
    assert [tokens(answer) for answer in ask(path, records, tmp_path)] == expected
    assert len({tuple(answer) for answer in expected}) > 2, "pictures and questions must matter"


@pytest.mark.parametrize("name", FAMILIES)
def test_which_models_share_a_picture(name, folder, tmp_path, monkeypatch):
    """Where a picture's tokens see the question, or are no tokens, there is nothing to share."""
    batches = []
    answer = StaticEngine._answer
    monkeypatch.setattr(StaticEngine, "_answer", lambda self, batch: (batches.append(len(batch)), answer(self, batch)))
    records = [{"question_id": at, "image": "china.jpg", "text": words} for at, words in enumerate(QUESTIONS)]
    assert len(ask(folder(name), records, tmp_path)) == 3
    assert batches == ([] if name in SHARING else [3])


@pytest.mark.parametrize("name", ["llava", "llava_onevision", "qwen2_5_vl", "idefics3", "gemma3", "mllama"])
def test_several_pictures_earlier_turns_and_none(name, folder, tmp_path):
    path = folder(name)
    turns = [("human", "<image>\nOne?"), ("gpt", "A wall."), ("human", "<image>\nAnd now?")]
    conversation = [{"from": who, "value": words} for who, words in turns]
    records = [
        {"question_id": 0, "image": list(NAMES), "text": "<image>\n<image>\nWhich is red?"},
        {"id": 1, "image": list(NAMES), "conversations": conversation},
        {"question_id": 2, "text": "Who are you?"},
        {"question_id": 3, "image": list(NAMES), "text": "<image>\nis it like\n<image>\nor not?"},
    ]
    both = [picture(name) for name in NAMES]
    earlier = [
        {"role": "user", "content": [both[0], text("One?")]},
        {"role": "assistant", "content": [text("A wall.")]},
    ]
    expected = [
        ([*both, text("Which is red?")], ()),
        ([both[1], text("And now?")], earlier),
        ([text("Who are you?")], ()),
        ([both[0], text("is it like"), both[1], text("or not?")], ()),
    ]
    reference = Reference(path)
    assert [tokens(answer) for answer in ask(path, records, tmp_path)] == [
        reference.tokens(content, before) for content, before in expected
    ]


@pytest.mark.parametrize("name", TAKE_VIDEOS)
def test_videos_are_shown_to_models_that_take_them(name, folder, film, tmp_path):
    path = folder(name)
    records = [{"question_id": at, "video": str(film), "text": words} for at, words in enumerate(QUESTIONS[:2])]
    frames = videos.decode_frames(film.read_bytes())
    about = {"total_num_frames": frames[-1].index + 1, "frames_indices": [frame.index for frame in frames]}
    about |= {"fps": frames[-1].index / frames[-1].time, "duration": frames[-1].time}
    shown = {"type": "video", "video": [frame.picture for frame in frames]}
    given = {"video_metadata": [about], "do_sample_frames": False}
    reference = Reference(path)
    expected = [reference.tokens([shown, text(words)], **given) for words in QUESTIONS[:2]]
    answers = ask(path, records, tmp_path, allow_absolute=True)
    assert [tokens(answer) for answer in answers] == expected


def test_a_video_is_refused_by_models_of_pictures_alone(folder, film, tmp_path):
    records = [{"question_id": 0, "video": str(film), "text": "What?"}]
    [failure] = ask(folder("llava"), records, tmp_path, allow_absolute=True)
    assert (failure.reason, failure.detail) == ("unsupported", "the model takes no videos")


@pytest.mark.parametrize("name", ["llava", "mllama"])
def test_choices_samples_and_the_order_are_those_of_any_model(name, folder, tmp_path):
    records = [{"question_id": at, "image": NAMES[at % 2], "text": words} for at, words in enumerate(QUESTIONS)]
    chosen = ask(folder(name), records, tmp_path, choices="Yes,No", logprobs=False)
    alone = [ask(folder(name), [one], tmp_path, choices="Yes,No", logprobs=False)[0] for one in records]
    assert [answer.question_id for answer in chosen] == [0, 1, 2]
    for one, other in zip(chosen, alone, strict=True):
        assert one.text == other.text
        assert one.metadata["choices"] == pytest.approx(other.metadata["choices"], abs=2e-3)
    sampling = {"temperature": 1.0, "num_samples": 2, "seed": 3}
    drawn = ask(folder(name), records, tmp_path, **sampling)
    assert [answer.metadata["sample"] for answer in drawn] == [0, 1] * 3
    assert list(map(tokens, drawn)) == list(map(tokens, ask(folder(name), records, tmp_path, batch_size=2, **sampling)))


WEIGHED = {
    "repetition_penalty": 1.9,
    "no_repeat_ngram_size": 2,
    "suppress_tokens": [72, 101],
    "begin_suppress_tokens": list(range(8, 120)),
    "min_new_tokens": 4,
    "sequence_bias": [[[130], 9.0]],
}


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "paligemma"])
def test_what_a_model_s_own_configuration_makes_likelier_is_followed(name, folder, tmp_path):
    """As `generate` does, for each prompt alone, whether its model shares a picture or not."""
    path = tmp_path / "model"
    shutil.copytree(folder(name), path)
    plain = Reference(path)
    GenerationConfig(**WEIGHED, eos_token_id=[1, 140], pad_token_id=2).save_pretrained(path)
    weighed = Reference(path)
    records = [{"question_id": at, "image": NAMES[at % 2], "text": words} for at, words in enumerate(QUESTIONS)]
    asked = [[picture(one["image"]), text(one["text"])] for one in records]
    expected = [weighed.tokens(content) for content in asked]
    assert all(one != plain.tokens(content) for one, content in zip(expected, asked, strict=True))
    assert [tokens(answer) for answer in ask(path, records, tmp_path)] == expected
    assert [tokens(answer) for answer in ask(path, records, tmp_path, batch_size=1)] == expected


def test_what_a_configuration_asks_for_in_another_way_is_told(folder, tmp_path, caplog):
    shutil.copytree(folder("llava"), tmp_path / "model")
    GenerationConfig(num_beams=4, eos_token_id=1).save_pretrained(tmp_path / "model")
    ask(tmp_path / "model", [{"question_id": 0, "image": NAMES[0], "text": "Why?"}], tmp_path)
    assert "generation_config.json: num_beams 4 is not followed" in caplog.text


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["llava", "paligemma"])
def test_a_question_that_is_too_long_is_cut_and_its_picture_is_not(name, side, folder, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(folder(name), path)
    config = json.loads((path / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 60
    (path / "config.json").write_text(json.dumps(config))
    words = "".join(chr(97 + at % 26) for at in range(90))
    records = [
        {"question_id": 0, "image": NAMES[0], "text": words},
        {"question_id": 1, "text": "Hi", "image": NAMES[0]},
    ]
    [failure, short] = ask(path, records, tmp_path)
    assert failure.reason == "prompt_too_long"
    [cut, same] = ask(path, records, tmp_path, truncate=side)
    assert tokens(same) == tokens(short)
    assert 20 < len(cut.prompt) < 60
    assert cut.prompt == (words[-len(cut.prompt) :] if side == "left" else words[: len(cut.prompt)])
    assert tokens(cut) == Reference(path).tokens([picture(NAMES[0]), text(cut.prompt)])
    assert len(tokens(cut)) == TOKENS


def test_a_run_goes_on_and_the_cache_knows_the_model(folder, tmp_path):
    path = folder("qwen2_vl")
    photos = {"images": str(PHOTOS), "device": "cpu", "max_new_tokens": 3, "task": "caption"}
    options = mgtool.InferOptions(model=f"hf:{path}", cache=tmp_path / "cache", **photos)
    done = mgtool.infer([PHOTOS], tmp_path / "one.jsonl", options)
    again = mgtool.infer([PHOTOS], tmp_path / "one.jsonl", options)
    cached = mgtool.infer([PHOTOS], tmp_path / "two.jsonl", options)
    assert (done.answered, again.new_tokens) == (3, done.new_tokens)
    assert (tmp_path / "one.jsonl").read_bytes() == cached.out.read_bytes()
    answers = [json.loads(line) for line in cached.out.read_bytes().splitlines()]
    assert {answer["model_id"] for answer in answers} == {path.name}
    assert mgtool.stages.infer.plan([PHOTOS], options).weight_bytes > 0


BROKEN = {
    "remote code": ({"model_type": "mine", "auto_map": {}}, "brings code of its own"),
    "unknown": ({"model_type": "mine"}, "mine is not known to transformers"),
    "text alone": ({"model_type": "llama"}, "llama is no model that is shown pictures"),
    "our own": ({"model_type": "mg_llava"}, "leave hf: out"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_models_that_cannot_be_asked_are_refused_in_one_line(kind, tmp_path):
    config, said = BROKEN[kind]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said) as found:
        ask(tmp_path, [{"question_id": 0, "text": "Who?"}], tmp_path)
    assert "\n" not in str(found.value)


def test_parts_that_are_missing_are_named(folder, tmp_path):
    asked = [{"question_id": 0, "text": "Who?"}]
    whole = folder("llava")
    for left_out, said in (("processor_config.json", "processor"), ("model.safetensors", "no file named")):
        own = tmp_path / left_out
        own.mkdir()
        for part in whole.iterdir():
            if part.name != left_out:
                (own / part.name).symlink_to(part)
        with pytest.raises(CheckpointError, match=said):
            ask(own, asked, tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        ask(tmp_path / "nowhere", asked, tmp_path)
    with pytest.raises(UsageError, match="takes no boxes"):
        ask(whole, asked, tmp_path, boxes="boxes.jsonl")
