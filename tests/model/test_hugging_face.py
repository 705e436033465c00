"""What transformers' documentation shows of a model works on this one: placeholders, generation, chat, training."""

from __future__ import annotations

import copy
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import KIT, new_tokens, tiny_config, tiny_model
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedConfig,
    Trainer,
    TrainingArguments,
    pipeline,
)

from mgtool.inputs.model_folders import model_folder
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.records import Detections

PLACE = 191
"""Of the kit's tokenizer: the token of a NUL, which no text has."""
GREEDY = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "pad_token_id": 0, "eos_token_id": 399}
SEEN = [
    Detections(((1, 2, 30, 40), (5, 5, 50, 60)), (0.9, 0.8), ("a", "b")),
    Detections(((10, 2, 90, 40), (5, 5, 9, 9), (3, 30, 60, 60)), (0.9, 0.8, 0.7), ("a", "b", "c")),
]
RED, BLUE = (Image.new("RGB", (96, 96), colour) for colour in ("red", "blue"))


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(KIT / "llm")


@pytest.fixture(scope="module")
def short(tokenizer):
    """One placeholder for each picture."""
    return MGLlavaProcessor(tokenizer, image_size=96)


@pytest.fixture(scope="module")
def long(tokenizer):
    """A place for each visual token."""
    return MGLlavaProcessor(tokenizer, image_size=96, vision_tokens=9, image_token_id=PLACE)


@pytest.fixture(scope="module")
def model():
    return tiny_model(tiny_config(image_token_id=PLACE))


@pytest.fixture(scope="module")
def tiny():
    return str(model_folder("tiny"))


def asked(processor, *questions, pictures=(RED, BLUE), **options):
    return processor(
        text=[processor.render([("<image>\n" + question, None)]) for question in questions],
        images=list(pictures[: len(questions)]),
        detections=SEEN[: len(questions)],
        **options,
    )


def test_ids_have_a_place_for_each_vision_and_box_token(long, short):
    batch, bare = asked(long, "Why?", "Where is it?"), asked(short, "Why?", "Where is it?")
    assert (batch["input_ids"] == PLACE).sum(-1).tolist() == [9 + 2, 9 + 3]
    assert (bare["input_ids"] < 0).sum(-1).tolist() == [1, 1]
    film = long(text="<video> What?", videos=[[RED, BLUE]], detections=SEEN)
    assert int((film["input_ids"] == PLACE).sum()) == 9 + 2 + 9 + 3
    assert long._get_num_multimodal_tokens([(96, 96)]).num_image_tokens == [9 + 1]


@torch.no_grad()
def test_both_forms_of_ids_give_the_same(model, long, short):
    batch, bare = asked(long, "Why?", "Where is it?"), asked(short, "Why?", "Where is it?")
    logits, mask = model(**batch).logits, batch["attention_mask"].bool()
    assert logits.shape[:2] == batch["input_ids"].shape
    assert torch.allclose(logits[mask], model(**bare).logits[mask], atol=1e-4)
    right = asked(long, "Why?", "Where is it?", padding_side="right")
    shifted = right["attention_mask"].bool()
    assert torch.allclose(model(**right).logits[shifted], logits[mask], atol=1e-4)
    assert torch.equal(new_tokens(model, batch, **GREEDY), new_tokens(model, bare, **GREEDY))
    last = model(**batch, logits_to_keep=2).logits
    assert torch.allclose(last, logits[:, -2:], atol=1e-5)


def test_the_first_step_computes_logits_of_one_place(model, long):
    places = []
    hook = model.get_output_embeddings().register_forward_hook(lambda module, given, found: places.append(found.shape))
    new_tokens(model, asked(long, "Why?"), **GREEDY)
    hook.remove()
    assert [shape[1] for shape in places] == [1] * 6


@pytest.mark.parametrize("form", ["long", "short"])
@pytest.mark.parametrize("more", [{"num_beams": 2}, {"num_beams": 3, "num_return_sequences": 2}])
def test_beams_see_their_own_pictures(form, more, model, request):
    processor = request.getfixturevalue(form)
    together = new_tokens(model, asked(processor, "Why?", "Where is it?"), **GREEDY, **more)
    each = more.get("num_return_sequences", 1)
    for row, (question, picture, seen) in enumerate(zip(["Why?", "Where is it?"], [RED, BLUE], SEEN, strict=True)):
        text = processor.render([("<image>\n" + question, None)])
        alone = new_tokens(model, processor(text=text, images=picture, detections=seen), **GREEDY, **more)
        assert torch.equal(together[row * each : (row + 1) * each], alone)


@pytest.mark.parametrize("assistant", ["the model", "its language model", "prompt lookup"])
def test_assisted_decoding_gives_the_tokens_of_plain_decoding(assistant, model, long):
    batch = asked(long, "Why?")
    helper = {
        "the model": {"assistant_model": copy.deepcopy(model)},
        "its language model": {"assistant_model": copy.deepcopy(model.language_model)},
        "prompt lookup": {"prompt_lookup_num_tokens": 3},
    }[assistant]
    assert torch.equal(new_tokens(model, batch, **GREEDY, **helper), new_tokens(model, batch, **GREEDY))


def test_assistants_without_eyes_are_given_no_pictures(model, long):
    batch = asked(long, "Why?")
    drafting = model._get_candidate_generator(
        generation_config=GenerationConfig(max_length=200),
        input_ids=batch["input_ids"],
        inputs_tensor=batch["input_ids"],
        assistant_model=copy.deepcopy(model.language_model),
        logits_processor=LogitsProcessorList(),
        model_kwargs=dict(batch),
    )
    assert set(drafting.assistant_kwargs) <= {"input_ids", "attention_mask"}


def test_assistants_refuse_what_they_cannot_draft_behind(model, short):
    with pytest.raises(ValueError, match="assistant_model"):
        model.generate(**asked(short, "Why?"), **GREEDY, assistant_model=copy.deepcopy(model))


def test_processors_of_logits_read_the_ids(model, long):
    options = GREEDY | {"repetition_penalty": 5.0, "no_repeat_ngram_size": 2}
    answer = new_tokens(model, asked(long, "Why?"), **options)[0].tolist()
    assert answer != new_tokens(model, asked(long, "Why?"), **GREEDY)[0].tolist()
    assert len(set(pairwise(answer))) == len(answer) - 1


def test_a_second_turn_goes_on_from_the_first_one_s_cache(model, long, short):
    batch = dict(asked(long, "Why?"))
    first = model.generate(**batch, **GREEDY, return_dict_in_generate=True)
    more = torch.cat([first.sequences, torch.tensor([[50, 51, 52]])], dim=1)
    given = {"input_ids": more, "attention_mask": torch.ones_like(more)}
    anew = new_tokens(model, batch | given, **GREEDY)
    assert torch.equal(new_tokens(model, given, **GREEDY, past_key_values=first.past_key_values), anew)
    bare = torch.cat([asked(short, "Why?")["input_ids"], more[:, -9:]], dim=1)
    with pytest.raises(ValueError, match="past_key_values"):
        model.generate(input_ids=bare, past_key_values=first.past_key_values, **GREEDY)


def test_embeddings_beside_ids_are_used(model):
    ids, embeds = torch.tensor([[1, 5, 6]]), torch.randn(1, 3, 32)
    options = GREEDY | {"return_dict_in_generate": True, "output_logits": True}
    both = model.generate(input_ids=ids, inputs_embeds=embeds, **options)
    alone = model.generate(inputs_embeds=embeds, **options)
    assert torch.equal(both.logits[0], alone.logits[0])
    assert torch.equal(both.sequences[:, 3:], alone.sequences)


def test_pictures_and_places_must_agree(model, long):
    batch = dict(asked(long, "Why?", "Where?"))
    with pytest.raises(ValueError, match="placeholder"):
        model(input_ids=batch["input_ids"])
    with pytest.raises(ValueError, match="placeholder"):
        model.generate(input_ids=batch["input_ids"], **GREEDY)
    batch["input_ids"] = batch["input_ids"].clone()
    batch["input_ids"][0, -3] = PLACE
    with pytest.raises(ValueError, match="24 placeholders and 2 pictures"):
        model(**batch)


def test_a_text_may_hold_the_place_s_token(model, long, short):
    batch, bare = asked(long, "W\0y?"), asked(short, "W\0y?")
    assert int((batch["input_ids"] == PLACE).sum()) == 1
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, model(**bare).logits, atol=1e-4)
        assert model(input_ids=torch.tensor([[1, PLACE, 5]])).logits.shape[1] == 3


def learned(long):
    """A batch of two conversations with their labels."""
    texts = [long.encode([("<image>\nWhat is it?", answer)]) for answer in ("a dog", "two dogs and a cat")]
    pictures = [long.place(picture, seen) for picture, seen in zip((RED, BLUE), SEEN, strict=True)]
    return long.collate([text.ids for text in texts], pictures, labels=[text.labels for text in texts])


def test_labels_are_as_long_as_logits(model, long):
    batch = learned(long)
    output = model(**batch)
    assert batch["labels"].shape == output.logits.shape[:2] == batch["input_ids"].shape
    assert not (batch["labels"][batch["input_ids"] == PLACE] >= 0).any()
    by_hand = functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    assert torch.isclose(output.loss, by_hand, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")
def test_the_trainer_smooths_labels_and_measures(long, tmp_path, monkeypatch):
    monkeypatch.setattr(PreTrainedConfig, "keys_to_ignore_at_inference", [], raising=False)  # as until 5.19
    lengths = []

    def measure(found):
        lengths.append((found.predictions.shape[:2], found.label_ids.shape))
        return {}

    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        max_steps=1,
        label_smoothing_factor=0.1,
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        tiny_model(tiny_config(image_token_id=PLACE)),
        arguments,
        train_dataset=[0, 1],
        eval_dataset=[0, 1],
        data_collator=lambda rows: dict(learned(long)),
        compute_metrics=measure,
    )
    assert trainer.train().training_loss > 0
    trainer.evaluate()
    assert lengths[0][0] == lengths[0][1]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_by_peft_trains(long):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=2)
    model = peft.get_peft_model(tiny_model(tiny_config(image_token_id=PLACE)).train(), config)
    batch = learned(long)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    losses = []
    for _ in range(3):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert new_tokens(model.eval(), asked(long, "Why?"), **GREEDY).shape == (1, 6)


FILM = np.stack([np.asarray(frame) for frame in (RED, BLUE, RED)])
FILMS = {
    "frames": [RED, BLUE, RED],
    "an array": FILM,
    "a list of arrays": [FILM],
    "a list of frames": [list(FILM)],
    "a tensor": torch.from_numpy(FILM.copy()).permute(0, 3, 1, 2),
    "by prompt": [[list(FILM)]],
}


@pytest.mark.parametrize("form", FILMS)
def test_videos_come_in_every_form(form, long):
    prompt = long.render([("<video>\nWhat?", None)])
    wanted = long(text=prompt, videos=[[RED, BLUE, RED]])
    batch = long(text=prompt, videos=FILMS[form])
    assert torch.equal(batch["pixel_values"], wanted["pixel_values"])
    assert batch["frame_counts"].tolist() == [3]
    assert len(long(text=prompt, videos=FILMS[form], num_frames=2)["pixel_values"]) == 2


def said(role, *content):
    return {"role": role, "content": [{"type": kind, kind: value} for kind, value in content]}


def test_the_chat_template_gives_batches_and_the_answers_mask(long):
    chat = [
        said("user", ("video", [RED, BLUE]), ("text", "What is it?")),
        said("assistant", ("text", "a dog")),
        said("user", ("text", "Why?")),
        said("assistant", ("text", "it barks")),
    ]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    batch = long.apply_chat_template(chat, return_assistant_tokens_mask=True, **options)
    mask = torch.as_tensor(batch["assistant_masks"])
    text = long.encode([("<video>\nWhat is it?", "a dog"), ("Why?", "it barks")])
    assert mask.shape == batch["input_ids"].shape
    assert batch["input_ids"][mask.bool()].tolist() == [label for label in text.labels if label >= 0]
    assert [token for token in batch["input_ids"][0].tolist() if token != PLACE] == [t for t in text.ids if t >= 0]
    several = long.apply_chat_template([chat[:3], chat[:1]], return_assistant_tokens_mask=True, **options)
    assert torch.as_tensor(several["assistant_masks"]).sum(-1).tolist() == [
        sum(label >= 0 for label in long.encode([("Who?", "a dog")]).labels),
        0,
    ]


def test_decoding_leaves_places_out(long):
    ids = asked(long, "Why?")["input_ids"]
    assert long.batch_decode(ids, skip_special_tokens=True)[0].split() == ["USER:", "Why?", "ASSISTANT:"]


def test_the_shipped_model_answers_by_a_pipeline(tiny):
    pipe = pipeline("image-text-to-text", model=tiny, device="cpu")
    picture = Image.open(KIT.parents[1] / "images" / "china.jpg").convert("RGB")
    chat = [said("user", ("image", picture), ("text", "What is in the picture?"))]
    (found,) = pipe(text=chat, generate_kwargs={"max_new_tokens": 8}, return_full_text=False)
    model, processor = pipe.model, pipe.processor
    batch = processor.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt")
    assert int((batch["input_ids"] == model.config.image_token_id).sum()) == model.config.vision_tokens + 1
    answer = new_tokens(model, batch.to(model.dtype), max_new_tokens=8)
    assert found["generated_text"] == processor.batch_decode(answer, skip_special_tokens=True)[0]


def test_an_import_knows_its_places(model_dir):
    processor = MGLlavaProcessor.from_pretrained(model_dir)
    config = MGLlavaForConditionalGeneration.config_class.from_pretrained(model_dir)
    assert (processor.vision_tokens, processor.box_tokens) == (config.vision_tokens, config.boxes)
    assert processor.image_token_id == config.image_token_id == PLACE
    assert processor.tokenizer.encode("\0", add_special_tokens=False) == [PLACE]
    texts = list(chain(*[processor.tokenize([(question, None)]) for question in ("Why?", "ü?")]))
    assert PLACE not in texts
