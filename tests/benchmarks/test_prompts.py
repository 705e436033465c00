"""The published prompt of every benchmark, word for word."""

from __future__ import annotations

import pytest

from mgtool import benchmarks
from mgtool.errors import UsageError
from mgtool.inference.prompts import Prompter
from mgtool.records import Media, Sample, Turn

WORD = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
CHOICE = f"It is dark.\nWhat is it?\nA. cat\nB. dog\n{LETTER}"
CAPTION = "Provide a one-sentence caption for the provided image."
_CHOICES = (
    *("mmbench", "mmbench-cn", "ccbench", "seedbench", "mmstar", "mmmu", "realworldqa", "scienceqa", "ai2d"),
    *("blink", "aokvqa"),
)
PROMPTS = {
    **dict.fromkeys(
        ("vqav2", "textvqa", "gqa", "okvqa", "vizwiz", "docvqa", "infovqa", "stvqa", "chartqa", "ocrvqa", "aokvqa-da"),
        f"What is it?\n{WORD}",
    ),
    "tallyqa": "What is it?\nAnswer the question using a single number.",
    "pope": "What is it?\nPlease answer the question with yes or no.",
    "hallusionbench": "What is it?\nPlease answer the question with yes or no.",
    **dict.fromkeys(
        (
            "mmbench",
            "mmbench-cn",
            "ccbench",
            "seedbench",
            "mmstar",
            "mmmu",
            "realworldqa",
            "scienceqa",
            "ai2d",
            "blink",
            "aokvqa",
        ),
        CHOICE,
    ),
    "mmvp": f"What is it? (a) cat (b) dog\n{LETTER}",
    **dict.fromkeys(
        ("mme", "ocrbench", "mm-vet", "llava-bench", "mathvista", "coco-caption", "nocaps", "flickr30k", "custom"),
        "What is it?",
    ),
    **dict.fromkeys(("msvd-qa", "msrvtt-qa", "tgif-qa", "activitynet-qa"), "What is it?"),
    "mathverse": "What is it?",
    **dict.fromkeys(("coco-detection", "lvis"), "What is it?"),
    "refcoco": "Please provide the bounding box coordinate of the region this sentence describes: What is it?",
}


def sample(question: str, **metadata: object) -> Sample:
    return Sample(id=1, turns=(Turn("human", question),), metadata=metadata)


@pytest.mark.parametrize("name", benchmarks.TABLE)
def test_prompt(name: str) -> None:
    asked = sample("What is it?", A="cat", B="dog", hint="It is dark.", Options="(a) cat (b) dog")
    assert benchmarks.get(name).prompt(asked) == PROMPTS[name]


@pytest.mark.parametrize("name", benchmarks.TABLE)
def test_a_question_that_has_its_instruction_is_left_alone(name: str) -> None:
    prompt = PROMPTS[name]
    assert benchmarks.get(name).prompt(sample(f"<image>\n{prompt}")) == prompt


def test_the_exceptions() -> None:
    mme = benchmarks.get("mme").prompt(sample("Is it red? Please answer yes or no."))
    assert mme == "Is it red? Please answer the question only a single word yes or no."
    assert benchmarks.get("mmmu").prompt(sample("How much?")) == f"How much?\n{WORD}"
    chinese = benchmarks.get("mmbench-cn").prompt(sample("这是什么？", A="猫", B="狗"))
    assert chinese == "这是什么？\nA. 猫\nB. 狗\n请直接回答选项字母。"
    assert benchmarks.get("coco-caption").prompt(Sample(id=1)) == CAPTION
    assert benchmarks.get("mathvista").prompt(sample("What?", query="Hint: ... Question: What?")).startswith("Hint")
    assert {bench.max_new_tokens for bench in benchmarks.TABLE.values()} == {100}


def asked(name: str, prompts: str, question: str = "Is it red?", **metadata: object) -> str:
    return benchmarks.get(name).prompt_as(sample(question, **metadata), prompts)


UNSURE = "When the provided information is insufficient, respond with 'Unanswerable'."
SELECT = "Please select the correct answer from the options above."
THEIRS = f"Hint: It is dark.\nQuestion: What is it?\nOptions:\nA. cat\nB. dog\n{SELECT}"


def test_other_projects_ask_in_their_own_words() -> None:
    assert asked("pope", "mg-llava") == "Is it red?\nPlease answer the question with yes or no."
    assert asked("pope", "llava") == f"Is it red?\n{WORD}"
    assert asked("pope", "vlmevalkit") == asked("hallusionbench", "vlmevalkit") == "Is it red?"
    both = f"Is it red? Please answer yes or no.\n{WORD}"
    assert asked("mme", "llava", "Is it red? Please answer yes or no.") == asked("mme", "llava", both) == both
    assert asked("mme", "vlmevalkit", "Is it red? Please answer yes or no.") == "Is it red? Please answer yes or no."
    assert asked("vizwiz", "llava") == f"Is it red?\n{UNSURE}\n{WORD}"
    assert asked("vizwiz", "vlmevalkit") == "Is it red?"
    assert asked("vqav2", "llava") == asked("vqav2", "vlmevalkit") == f"Is it red?\n{WORD}"


@pytest.mark.parametrize("name", ["mmbench", "seedbench", "mmstar", "ai2d", "scienceqa", "mmmu", "mmvp", "realworldqa"])
def test_vlmevalkit_names_the_parts_of_a_choice(name: str) -> None:
    options = {"A": "cat", "B": "dog", "hint": "It is dark."}
    assert asked(name, "vlmevalkit", "What is it?", **options) == THEIRS
    assert asked(name, "vlmevalkit", THEIRS, **options) == THEIRS
    assert asked(name, "llava", "What is it?", **options) == benchmarks.get(name).prompt(
        sample("What is it?", **options)
    )


def test_the_option_is_of_a_benchmark() -> None:
    turns = (Turn("human", "<image>\nIs it red?"),)
    media = (Media(name="a.jpg"),)
    conversation = Prompter("pope", prompts="llava").converse(Sample(id=1, images=media, turns=turns))
    assert conversation.turns == [(f"<image>\nIs it red?\n{WORD}", None)]
    for given in ({"task": "vqa"}, {"task": "pope", "template": "{question}"}):
        with pytest.raises(UsageError, match="add its `task`"):
            Prompter(**given, prompts="llava")
