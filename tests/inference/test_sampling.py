"""How answers are drawn: samples, choices, log-probabilities, stops; each against the model asked plainly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from mgtool.errors import UsageError
from mgtool.inference.decoding import Decoding
from mgtool.inference.sampling import Choices, NucleusSampler

PHOTOS = Path(__file__).parent.parent / "images"
QUESTIONS = [
    {"question_id": at, "image": name, "text": text}
    for at, (name, text) in enumerate(
        (name, text)
        for text in ("Is it day?", "Is it night or is it day?", "What?")
        for name in ("coffee.jpg", "china.jpg")
    )
]
ASK = ("--images", PHOTOS, "--boxes", "off")


@pytest.fixture(scope="module")
def plain(models):
    """The log-probabilities after each token of a prompt with its answer, from one forward pass."""
    from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

    model = MGLlavaForConditionalGeneration.from_pretrained(models["vicuna"]).eval()
    processor = MGLlavaProcessor.from_pretrained(models["vicuna"])

    def logprobs(question: dict, answer: list[int]) -> list[float]:
        picture = processor.place(Image.open(PHOTOS / question["image"]))
        prompt = processor.tokenize([(f"<image>\n{question['text']}", None)])
        with torch.inference_mode():
            logits = model(**processor.collate([prompt + answer], [picture])).logits[0, -len(answer) - 1 : -1]
        return logits.log_softmax(-1)[range(len(answer)), answer].tolist()

    logprobs.processor = processor
    return logprobs


def test_a_seed_fixes_each_answer_at_any_batch_size_and_order(infer, write):
    sampling = (*ASK, "--max-new-tokens", 8, "--temperature", 1.2, "--top-p", 0.9, "--seed", 3, "--num-samples", 2)
    questions = write("q.jsonl", QUESTIONS)
    together = infer(questions, *sampling)[1]
    one_by_one = infer(questions, *sampling, "--batch-size", 1, out="one.jsonl")[1]
    backwards = infer(write("r.jsonl", QUESTIONS[::-1]), *sampling, "--batch-size", 3, out="r/answers.jsonl")[1]
    key = ["question_id", "text", "metadata"]
    assert together == one_by_one
    assert sorted([[a[k] for k in key] for a in together], key=str) == sorted(
        [[a[k] for k in key] for a in backwards], key=str
    )
    assert [(a["question_id"], a["metadata"]["sample"]) for a in together] == [(q, s) for q in range(6) for s in (0, 1)]
    assert len({answer["text"] for answer in together}) > 6
    other = infer(questions, *sampling, "--seed", 4, out="other.jsonl")[1]
    assert [answer["text"] for answer in other] != [answer["text"] for answer in together]


def test_samples_follow_the_models_probabilities():
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0]])
    sampler = NucleusSampler(Decoding(temperature=0.5, top_p=0.95, samples=4000), name=str)
    states = [sampler.begin(number) for number in range(4000)]
    counts = Counter(sampler.choose(logits.repeat(4000, 1), states).tolist())
    wanted = (logits / 0.5).softmax(-1)[0][[0, 2]]
    wanted /= wanted.sum()  # the other two lie beyond 95 %
    assert set(counts) == {0, 2}
    assert counts[0] / 4000 == pytest.approx(wanted[0].item(), abs=0.02)


def test_log_probabilities_are_the_models(infer, write, plain):
    answers = infer(write("q.jsonl", QUESTIONS), *ASK, "--max-new-tokens", 5, "--logprobs")[1]
    for question, answer in zip(QUESTIONS, answers, strict=True):
        noted = answer["metadata"]["logprobs"]
        ids = plain.processor.tokenizer.convert_tokens_to_ids([entry["token"] for entry in noted])
        assert [entry["logprob"] for entry in noted] == pytest.approx(plain(question, ids), abs=2e-3)
        assert plain.processor.decode(ids) == answer["text"]


@pytest.mark.parametrize("choices", ["a,b", "Yes,No", "a,an,a dog", "day,night,it is day"])
def test_options_are_scored_exactly(infer, write, plain, choices):
    tokenizer, options = plain.processor.tokenizer, choices.split(",")
    answers = infer(write("q.jsonl", QUESTIONS), *ASK, "--choices", choices, "--batch-size", 5)[1]
    ids = [tokenizer.encode(option, add_special_tokens=False) for option in options]
    ends = [tokenizer.eos_token_id] if choices == "a,an,a dog" else []  # else "a" would always win
    for question, answer in zip(QUESTIONS, answers, strict=True):
        wanted = {option: sum(plain(question, own + ends)) for option, own in zip(options, ids, strict=True)}
        assert answer["metadata"]["choices"] == pytest.approx(wanted, abs=5e-3)
        assert answer["text"] == max(wanted, key=wanted.get)
        assert answer["finish_reason"] == "stop"


def test_options_of_one_token_take_one_step():
    sampler = Choices([[3], [1]])
    states = [sampler.begin(0), sampler.begin(1)]
    logits = torch.tensor([[9.0, 1.0, 5.0, 2.0], [0.0, 3.0, 5.0, 2.0]])
    assert sampler.choose(logits, states).tolist() == [3, 1]
    assert all(state.done for state in states)
    assert states[1].options == pytest.approx(logits.log_softmax(-1)[1, [3, 1]].tolist())


def test_yes_no_is_the_choice_of_yes_and_no(infer, write):
    questions = write("q.jsonl", QUESTIONS)
    assert infer(questions, *ASK, "--yes-no")[1] == infer(questions, *ASK, "--choices", "Yes,No", out="o.jsonl")[1]


def test_stop_texts_end_an_answer(infer, write):
    questions = write("q.jsonl", QUESTIONS)
    free = infer(questions, *ASK, "--max-new-tokens", 12)[1]
    stop = free[0]["text"][3:5]
    stopped = infer(questions, *ASK, "--max-new-tokens", 12, "--stop", stop, "--stop", "never said", out="s.jsonl")[1]
    assert stopped[0]["finish_reason"] == "stop"
    assert stopped[0]["tokens"] < free[0]["tokens"]
    for one, other in zip(free, stopped, strict=True):
        assert other["text"] == one["text"].split(stop)[0].strip()


def test_stop_texts_of_many_tokens_and_of_spaces(models):
    """A character that the vocabulary lacks is a token for each of its bytes."""
    from mgtool.inference.engine import Engine
    from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

    processor = MGLlavaProcessor.from_pretrained(models["vicuna"])
    model = MGLlavaForConditionalGeneration.from_pretrained(models["vicuna"])
    tokens = processor.tokenizer
    for stop in ("\U0001f642", "USER: ", "\nUSER"):
        engine = Engine(model, processor, max_new_tokens=4, stops=(stop,))
        ids = tokens.encode(f"A cat{stop}", add_special_tokens=False)
        assert engine.says_stop(ids), (stop, ids)
        assert not engine.says_stop(ids[:-1])
        assert processor.decode(tokens.encode(f"A cat{stop}sat"), stops=(stop,)) == "A cat"
    engine = Engine(model, processor, max_new_tokens=4, stops=(tokens.bos_token,))
    assert tokens.bos_token_id in engine._ends


@pytest.mark.parametrize("side", ["left", "right"])
def test_questions_that_are_too_long_are_cut(infer, write, side):
    long = {"question_id": "long", "image": "coffee.jpg", "text": "first " + "cup of coffee " * 2000 + "last"}
    arguments = (write("q.jsonl", [*QUESTIONS[:1], long]), *ASK, "--max-new-tokens", 4)
    code, answers, _ = infer(*arguments, "--truncate", side)
    assert code == 0
    assert answers[0]["prompt"] == QUESTIONS[0]["text"]
    assert answers[1]["prompt"] in long["text"]
    assert answers[1]["prompt"].endswith("last") == (side == "left")
    assert answers[1]["prompt"].startswith("first") == (side == "right")
    assert answers[1]["tokens"] == 4
    longer = {**long, "text": answers[1]["prompt"] + " cup of coffee"}
    again = infer(write("again.jsonl", [longer]), *ASK, "--max-new-tokens", 4, "--truncate", "right", out="b.jsonl")
    assert again[0] == 0


def test_a_system_text_stands_before_the_first_turn(infer, write, models):
    from mgtool.model import MGLlavaProcessor

    for template, expected in (
        ("vicuna", "Be brief. USER: Who? ASSISTANT:"),
        ("phi3_chat", "<|system|>\nBe brief.<|end|>\n<|user|>Who?<|end|>\n<|assistant|>\n"),
    ):
        processor = MGLlavaProcessor.from_pretrained(models[template])
        ids = processor.tokenize([("Who?", None)], "Be brief.")
        assert ids == processor.tokenize_text(expected)
    turns = [{"from": "human", "value": "Who?"}]
    records = [
        {"id": "plain", "conversations": turns},
        {"id": "own", "conversations": [{"from": "system", "value": "Be brief."}, *turns]},
    ]
    kept = infer(write("c.jsonl", records), "--max-new-tokens", 9)[1]
    forced = infer(write("c.jsonl", records), "--max-new-tokens", 9, "--system", "Be brief.", out="b.jsonl")[1]
    assert kept[0]["text"] != kept[1]["text"]
    assert [answer["text"] for answer in forced] == [kept[1]["text"]] * 2


@pytest.mark.parametrize(
    "options",
    [
        {"top_p": 0.5},
        {"samples": 2},
        {"seed": 1},
        {"temperature": -1.0},
        {"temperature": 1.0, "top_p": 0.0},
        {"choices": ("A", "B"), "temperature": 1.0},
        {"choices": ("A", "A")},
        {"choices": ("A",)},
        {"choices": ("A", "")},
        {"choices": ("A", "B"), "logprobs": True},
        {"stop": ("",)},
    ],
)
def test_options_that_do_not_go_together(options):
    with pytest.raises(UsageError, match="`"):
        Decoding(**options)
