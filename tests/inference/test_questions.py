"""Conversations, sharing, and items that cannot be asked."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from mgtool.errors import ItemError
from mgtool.inference.prompts import CAPTION, Prompter
from mgtool.records import Media, Sample, Turn

TESTS = Path(__file__).parent.parent
PHOTOS = TESTS / "images"
TEXTS = ["Is it day?", "Is it day or night?", "What?", "Is it day?", "How many people are in the image? Count them."]


def human(*values):
    return tuple(Turn("gpt" if at % 2 else "human", value) for at, value in enumerate(values))


def test_shared_questions_answer_as_single_ones(infer, write, models):
    questions = [
        {"question_id": f"{name}/{at}", "image": name, "text": text}
        for at, text in enumerate(TEXTS)
        for name in ("china.jpg", "coffee.jpg")
    ]
    questions.insert(3, {"question_id": "text", "text": "Who are you?"})
    together = infer(write("all.jsonl", questions), "--images", PHOTOS, "--max-new-tokens", 30)
    alone = infer(
        write("all.jsonl", questions), "--images", PHOTOS, "--max-new-tokens", 30, "--batch-size", 1, out="alone.jsonl"
    )
    assert together[0] == 0
    assert together[1] == alone[1]
    assert [answer["question_id"] for answer in together[1]] == [question["question_id"] for question in questions]


def test_the_engine_answers_as_generate_does(models):
    import torch
    from PIL import Image
    from tiny_models import new_tokens

    from mgtool.inference.engine import Engine
    from mgtool.inference.scheduler import Group
    from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

    model = MGLlavaForConditionalGeneration.from_pretrained(models["vicuna"]).eval()
    processor = MGLlavaProcessor.from_pretrained(models["vicuna"])
    seen = []
    model.high_tower.register_forward_hook(lambda *_: seen.append(1))
    picture = processor.place(Image.open(PHOTOS / "coffee.jpg"))
    prompts = [processor.tokenize([(f"<image>\n{text}", None)]) for text in TEXTS]
    engine = Engine(model, processor, max_new_tokens=12, batch_size=3)
    got = dict(engine.generate([Group(("coffee",), [picture], range(len(prompts)), prompts)]))
    assert len(seen) == 1
    kwargs = processor.generation_kwargs() | {"max_new_tokens": 12}
    for number, ids in enumerate(prompts):
        with torch.inference_mode():
            plain = new_tokens(model, processor.collate([ids], [picture]), **kwargs)[0].tolist()
        assert got[number].ids == plain


def test_memory_that_does_not_suffice_halves_the_batch(models):
    import torch

    from mgtool.inference.engine import Engine
    from mgtool.inference.scheduler import Group
    from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

    model = MGLlavaForConditionalGeneration.from_pretrained(models["vicuna"]).eval()
    processor = MGLlavaProcessor.from_pretrained(models["vicuna"])
    prompts = [processor.tokenize([(text, None)]) for text in TEXTS]
    group = Group((), [], range(len(prompts)), prompts)
    plain = dict(Engine(model, processor, max_new_tokens=6, batch_size=5).generate([group]))

    def scarce(module, args, kwargs):
        tensor = kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
        if len(tensor) > limit:
            raise torch.OutOfMemoryError("no memory for so many rows")

    model.language_model.register_forward_pre_hook(scarce, with_kwargs=True)
    limit = 2
    engine = Engine(model, processor, max_new_tokens=6, batch_size=5)
    assert dict(engine.generate([group])) == plain
    assert engine.batch_size <= 2
    limit = 0
    failed = dict(Engine(model, processor, max_new_tokens=6, batch_size=5).generate([group]))
    assert {outcome.reason for outcome in failed.values()} == {"out_of_memory"}
    assert len(failed) == len(prompts)


def test_numbers_that_are_not_finite_fail_their_row_alone(models):
    from mgtool.inference.engine import Engine
    from mgtool.inference.scheduler import Group
    from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

    model = MGLlavaForConditionalGeneration.from_pretrained(models["vicuna"]).eval()
    processor = MGLlavaProcessor.from_pretrained(models["vicuna"])
    prompts = [processor.tokenize([(text, None)]) for text in TEXTS]
    group = Group((), [], range(len(prompts)), prompts)
    plain = dict(Engine(model, processor, max_new_tokens=6).generate([group]))
    calls = []

    def overflow(module, args, output):
        calls.append(len(output.logits))
        if len(calls) == 3:  # what the prompts share, their ends, the first step
            output.logits[1] = float("nan")

    model.language_model.register_forward_hook(overflow)
    found = dict(Engine(model, processor, max_new_tokens=6).generate([group]))
    assert calls[2] == len(prompts)
    failed = [number for number in found if found[number] != plain[number]]
    assert [found[number].reason for number in failed] == ["model_error"]


def test_items_that_cannot_be_asked_are_records(infer, write, tmp_path):
    questions = [
        {"question_id": "good", "image": "coffee.jpg", "text": "What is it?"},
        {"question_id": "empty", "image": "coffee.jpg", "text": "  "},
        {"question_id": "gone", "image": "gone.jpg", "text": "What is it?"},
        {"question_id": "long", "image": "coffee.jpg", "text": "cup of coffee " * 2000},
        {"question_id": "two", "image": "coffee.jpg", "text": "<image> or <image>?"},
        {"question_id": "also good", "image": "coffee.jpg", "text": "<image>\nWhat is it?", "split": "test"},
    ]
    code, answers, _ = infer(write("q.jsonl", questions), "--images", PHOTOS, "--max-new-tokens", 5)
    assert code == 3
    assert [answer["question_id"] for answer in answers] == ["good", "also good"]
    assert answers[0]["text"] == answers[1]["text"]
    assert answers[1]["metadata"] == {"split": "test"}
    failures = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_bytes().splitlines()]
    assert [(failure["id"], failure["reason"]) for failure in failures] == [
        ("empty", "empty_prompt"),
        ("gone", "missing"),
        ("long", "prompt_too_long"),
        ("two", "bad_record"),
    ]
    assert "the model takes 2048" in failures[2]["detail"]
    run = json.loads((tmp_path / "run.json").read_bytes())
    assert (run["counts"]["answered"], run["counts"]["failed"]) == (2, 4)
    assert run["versions"]["mgtool"] == version("mgtool")


def test_a_box_file_without_the_picture_is_a_failure_and_off_is_none(infer, write, tmp_path):
    questions = write("q.jsonl", [{"question_id": 1, "image": "coffee.jpg", "text": "What is it?"}])
    other = {"image": "other.jpg", "sha256": "", "width": 9, "height": 9, "boxes": [], "scores": [], "labels": []}
    code, answers, _ = infer(questions, "--images", PHOTOS, "--boxes", write("b.jsonl", [other]))
    assert (code, answers) == (3, [])
    assert '"no_boxes"' in (tmp_path / "failures.jsonl").read_text()
    code, answers, _ = infer(questions, "--images", PHOTOS, "--boxes", "off", out="off.jsonl")
    assert (code, len(answers)) == (0, 1)
    assert (tmp_path / "off.run.json").exists()


def test_bare_pictures_need_something_to_ask(infer):
    code, _, stderr = infer(PHOTOS)
    assert code == 2
    assert stderr.count("\n") == 1
    assert "--task caption" in stderr
    code, answers, _ = infer(PHOTOS, "--task", "caption", "--max-new-tokens", 3)
    assert code == 0
    assert [answer["image"] for answer in answers] == sorted(path.name for path in PHOTOS.iterdir())
    assert {answer["prompt"] for answer in answers} == {CAPTION}


def test_other_options_refuse_to_go_on(infer, write):
    questions = write("q.jsonl", [{"question_id": 1, "text": "Who?"}])
    assert infer(questions, "--max-new-tokens", 3)[0] == 0
    code, _, stderr = infer(questions, "--max-new-tokens", 4)
    assert code == 2
    assert "max_new_tokens" in stderr
    assert infer(questions, "--max-new-tokens", 4, "--overwrite")[0] == 0
    code, _, stderr = infer(questions, "--max-new-tokens", 4, "--images", PHOTOS)
    assert (code, "images" in stderr) == (2, True)


@pytest.mark.parametrize(
    ("turns", "pictures", "expected"),
    [
        (human("What?"), 1, [("<image>\nWhat?", None)]),
        (human("<image>\nWhat?"), 1, [("<image>\nWhat?", None)]),
        (human("What?\n<image>", "A cup."), 1, [("<image>\nWhat?", None)]),
        (human("<image> or <image>?"), 2, [("<image> or <image>?", None)]),
        (human("What?"), 0, [("What?", None)]),
        (human("<image>\nWhat?", "A cup.", "Full?"), 1, [("<image>\nWhat?", "A cup."), ("Full?", None)]),
        (human("What?", "A cup.", "Full?", "Yes"), 1, [("<image>\nWhat?", "A cup."), ("Full?", None)]),
    ],
)
def test_conversations(turns, pictures, expected):
    sample = Sample(id=1, images=(Media(name="a.jpg"),) * pictures, turns=turns)
    assert Prompter().converse(sample).turns == expected


def test_prompts_of_tasks_and_templates():
    sample = Sample(id=1, images=(Media(name="a.jpg"),), turns=human("Is it red?"), metadata={"hint": "look"})
    short = "Is it red?\nAnswer the question using a single word or phrase."
    assert Prompter("vqa").converse(sample).question == short
    assert Prompter("pope").converse(sample).question.startswith("Is it red?")
    assert Prompter("", "{hint}: {question}").converse(sample).turns == [("<image>\nlook: Is it red?", None)]
    with pytest.raises(ItemError, match="colour"):
        Prompter("", "{colour}").converse(sample)
    with pytest.raises(ItemError, match="empty_prompt"):
        Prompter("", "Q: {question} A:").converse(msgspec.structs.replace(sample, turns=human(" ")))


def test_a_share_of_a_launcher_names_the_file_that_lists_its_failures(mgtool, models, write, tmp_path, monkeypatch):
    """Shares stand beside each other, so that each has a file of its own."""
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    gone = [{"question_id": number, "image": f"gone{number}.jpg", "text": "What is it?"} for number in range(64)]
    questions = write("q.jsonl", gone)
    paths = ("--images", PHOTOS, "--model", models["vicuna"], "--out", tmp_path / "shares" / "answers.jsonl")
    code, _, stderr = mgtool("infer", questions, *paths, "--device", "cpu", "--rank", "slurm")
    assert code == 3, stderr
    [written] = (tmp_path / "shares").glob("*failures.jsonl")
    assert f"failed: {len(written.read_bytes().splitlines())}, see {written}" in stderr.replace("\n", "")


@pytest.mark.parametrize(
    "metadata",
    [
        {"pics": ["china.jpg"]},
        {"Image": "china"},
        {"image_id": 7},
        {"file": "china.jpg"},
        {"media": [{"path": "china.jpg"}]},
        {"clip_name": "a"},
        {"img2": "data:image/png;base64,AAAA"},
    ],
)
def test_nothing_is_asked_without_the_picture_that_its_record_names(metadata):
    sample = Sample(id=1, turns=human("What?"), metadata={"category": "a.jpg", "image_size": 3, **metadata})
    [key] = metadata
    with pytest.raises(ItemError, match=f"bad_record: `{key}`"):
        Prompter().converse(sample)
    seen = msgspec.structs.replace(sample, images=(Media(name="a.jpg"),))
    assert Prompter().converse(seen).question == "What?"
    empty = msgspec.structs.replace(sample, metadata={"images": [], "video": "", "image_id": None, "category": "a.jpg"})
    assert Prompter().converse(empty).question == "What?"


def test_a_record_without_its_question_is_a_failure_that_says_where_it_may_be(infer, write, tmp_path):
    records = [{"question_id": 1, "instruction": "What is it?"}, {"question_id": 2, "text": "What is it?"}]
    code, answers, _ = infer(write("q.jsonl", records), "--max-new-tokens", 2)
    assert (code, [answer["question_id"] for answer in answers]) == (3, [2])
    assert (
        "neither picture, video nor text in `question_id`, `instruction`" in (tmp_path / "failures.jsonl").read_text()
    )


def test_a_benchmarks_folder_of_pictures_wants_its_questions(infer):
    code, _, stderr = infer(PHOTOS, "--task", "mme")
    assert (code, "--task mme" in stderr, "--images" in stderr) == (2, True, True)


SHORT = "Answer the question using a single word or phrase."


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("vqa", f"What colour is it?\n{SHORT}"),
        ("vqa", f"{SHORT}\nWhat colour is it?"),
        ("vqa", f"What colour is it?\n{SHORT[:-1]}"),
        ("vqa", "Is it red? Please answer yes or no."),
        ("gqa", f"What colour is it? {SHORT.lower()}"),
        ("pope", f"Is there a dog in the image?\n{SHORT}"),
        ("textvqa", f"What is written?\nReference OCR token: A, B\n{SHORT}"),
    ],
)
def test_an_instruction_that_is_there_is_not_given_twice(task, text):
    assert Prompter(task).converse(Sample(id=1, turns=human(text))).question == text


def test_mme_has_one_instruction():
    text = f"Is there a dog in this image? Please answer yes or no.\n{SHORT}"
    question = Prompter("mme").converse(Sample(id=1, turns=human(text))).question
    assert question == "Is there a dog in this image? Please answer the question only a single word yes or no."
