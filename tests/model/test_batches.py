"""Samples in one batch are what they are alone; several pictures, none, videos; the training loss."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from PIL import Image
from tiny_models import TINY_LLMS, new_tokens, tiny_config, tiny_model
from torch.nn import functional

from mgtool.model import IMAGE_TOKEN_ID, VIDEO_TOKEN_ID, PlacedPicture
from mgtool.model.processor import MGLlavaProcessor
from mgtool.model.splice import IGNORED, splice


@pytest.fixture(scope="module")
def small(processor):
    """The kit's tokenizer on a frame of 96 pixels."""
    return MGLlavaProcessor(processor.tokenizer, image_size=96)


def picture(boxes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 97, (boxes, 2, 2), generator=generator).sort(dim=1).values
    return PlacedPicture(torch.randn(3, 96, 96, generator=generator), corners.reshape(boxes, 4).float(), ())


def samples():
    """(ids, pictures, frames of each placeholder) of very different samples."""
    image, video = IMAGE_TOKEN_ID, VIDEO_TOKEN_ID
    return [
        ([1, 30, image, 31, 32], [picture(3, 1)], [1]),
        ([1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49], [], []),
        ([1, image, 50, image, 51], [picture(1, 2), picture(7, 3)], [1, 1]),
        ([1, 60, video, 61], [picture(2, 4), picture(1, 5), picture(4, 6)], [3]),
        ([1, image, 70, video], [picture(2, 7), picture(1, 8), picture(1, 9)], [1, 2]),
    ]


def one(small, sample):
    ids, pictures, frames = sample
    return small.collate([ids], pictures, frames)


def all_of(small, several):
    ids, pictures, frames = zip(*several, strict=True)
    return small.collate(list(ids), list(chain(*pictures)), list(chain(*frames)))


@pytest.mark.parametrize("kind", TINY_LLMS)
def test_a_mixed_batch_equals_single_samples(kind, small):
    model = tiny_model(tiny_config(kind))
    options = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": 399, "pad_token_id": 0}
    batch = all_of(small, samples())
    with torch.no_grad():
        together = model(**batch).logits
    answers = new_tokens(model, batch, **options)
    for row, sample in enumerate(samples()):
        alone = one(small, sample)
        with torch.no_grad():
            logits = model(**alone).logits[0]
        error = (together[row, -len(logits) :] - logits).abs().max()
        assert error <= 1e-4 * logits.abs().max()
        assert answers[row].tolist() == new_tokens(model, alone, **options)[0].tolist()


def test_a_video_is_its_frames_in_order_each_followed_by_its_boxes():
    model = tiny_model(tiny_config())
    frames = [picture(2, 4), picture(1, 5)]
    pixels = torch.stack([frame.pixels for frame in frames])
    boxes, counts = torch.cat([frame.boxes for frame in frames]), torch.tensor([2, 1])
    with torch.no_grad():
        film = model.see(pixels, boxes, counts, [2])
        stills = model.see(pixels, boxes, counts)
    assert [len(tokens) for tokens in film] == [9 + 2 + 9 + 1]
    assert torch.equal(film[0], torch.cat(stills))


def test_padding_on_either_side_and_its_content_do_not_matter():
    embed = torch.nn.Embedding(100, 4)
    visual = torch.randn(3, 4)
    bare = splice(torch.tensor([[1, IMAGE_TOKEN_ID, 5]]), torch.ones(1, 3), [visual], embed)
    for ids, mask in (([7, 1, IMAGE_TOKEN_ID, 5], [0, 1, 1, 1]), ([1, IMAGE_TOKEN_ID, 5, 9], [1, 1, 1, 0])):
        padded = splice(torch.tensor([ids]), torch.tensor([mask]), [visual], embed)
        for ours, theirs in zip(padded[:3], bare[:3], strict=True):
            assert torch.equal(ours, theirs)


def test_positions_count_from_each_sample_s_first_token():
    embed = torch.nn.Embedding(100, 4)
    ids = torch.tensor([[1, 2, 3], [1, IMAGE_TOKEN_ID, 5]])
    spliced = splice(ids, torch.ones_like(ids), [torch.randn(4, 4)], embed)
    assert spliced.attention_mask.tolist() == [[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]
    assert spliced.position_ids.tolist() == [[0, 0, 0, 0, 1, 2], [0, 1, 2, 3, 4, 5]]
    assert spliced.labels is None


def test_placeholders_without_pictures_are_refused():
    with pytest.raises(ValueError, match="2 placeholders and 1 pictures"):
        splice(
            torch.tensor([[IMAGE_TOKEN_ID, IMAGE_TOKEN_ID]]),
            torch.ones(1, 2),
            [torch.ones(1, 4)],
            torch.nn.Embedding(9, 4),
        )


def conversation(small):
    encoded = small.encode([("<image>\nWhat is in the image?", "a dog"), ("Describe this picture.", "two dogs")])
    return encoded, picture(3)


def test_labels_skip_vision_box_and_question_tokens(small):
    encoded, placed = conversation(small)
    model = tiny_model(tiny_config())
    batch = small.collate([encoded.ids], [placed], labels=[encoded.labels])
    visuals = model.see(batch["pixel_values"], batch["boxes"], batch["box_counts"])
    spliced = model.splice(batch["input_ids"], batch["attention_mask"], visuals, batch["labels"])
    learned = spliced.labels[0][spliced.labels[0] != IGNORED].tolist()
    eos = small.tokenizer.eos_token_id
    answers = [small.tokenizer.encode(text, add_special_tokens=False) for text in ("a dog", "two dogs")]
    assert learned == [*answers[0], eos, *answers[1], eos]
    start = encoded.ids.index(IMAGE_TOKEN_ID)
    assert (spliced.labels[0, start : start + 9 + 3] == IGNORED).all()
    assert spliced.labels.shape == spliced.attention_mask.shape


def test_loss_is_the_mean_over_the_learned_tokens_of_the_batch(small):
    encoded, placed = conversation(small)
    text_only = small.encode([("hello", "yes")])
    model = tiny_model(tiny_config())
    batch = small.collate([encoded.ids, text_only.ids], [placed], labels=[encoded.labels, text_only.labels])
    output = model(**batch)
    singles = [
        model(**small.collate([encoded.ids], [placed], labels=[encoded.labels])),
        model(**small.collate([text_only.ids], labels=[text_only.labels])),
    ]
    learned = [sum(label != IGNORED for label in each.labels) for each in (encoded, text_only)]
    weighted = sum(single.loss * count for single, count in zip(singles, learned, strict=True)) / sum(learned)
    assert torch.isclose(output.loss, weighted, rtol=1e-5)
    visuals = model.see(batch["pixel_values"], batch["boxes"], batch["box_counts"])
    labels = model.splice(batch["input_ids"], batch["attention_mask"], visuals, batch["labels"]).labels
    by_hand = functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert torch.isclose(output.loss, by_hand, rtol=1e-5)


def gradients(model, batch):
    model.zero_grad()
    model(**batch).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_gradient_checkpointing_changes_no_gradient(small):
    encoded, placed = conversation(small)
    batch = small.collate([encoded.ids], [placed], labels=[encoded.labels])
    model = tiny_model(tiny_config()).train()
    model.freeze_for("tune")
    usual = gradients(model, batch)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    checkpointed = gradients(model, batch)
    assert usual.keys() == checkpointed.keys()
    for name, gradient in usual.items():
        assert torch.allclose(gradient, checkpointed[name], atol=1e-6), name


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("align", ["projector", "box_projector", "fusion"]),
        ("tune", ["projector", "box_projector", "fusion", "language_model"]),
    ],
)
def test_a_stage_trains_its_parts_and_nothing_else(stage, names, small):
    encoded, placed = conversation(small)
    model = tiny_model(tiny_config()).train()
    groups = model.freeze_for(stage)
    assert [group["name"] for group in groups] == names
    torch.optim.SGD(groups, lr=0.1)  # the groups are an optimizer's
    trained = gradients(model, small.collate([encoded.ids], [placed], labels=[encoded.labels]))
    assert {name.split(".")[0] for name in trained} == set(names)
    assert len(trained) == sum(len(group["params"]) for group in groups)


def test_training_starts_from_the_low_tower_alone():
    model = tiny_model(tiny_config())
    fresh = type(model)(tiny_config())
    low, last = torch.randn(1, 9, 16), torch.randn(1, 64, 3, 3)
    assert torch.equal(fresh.fusion(low, last), low)
    assert not torch.equal(model.fusion(low, last), low)


def test_the_processor_s_call_places_pictures_where_the_text_shows_them(small):
    still = Image.new("RGB", (40, 20), (200, 10, 10))
    film = [Image.new("RGB", (20, 20), (10, 10, shade)) for shade in (0, 100, 200)]
    batch = small(text=["USER: <video> then <image> ASSISTANT:", "USER: hello"], images=[[still], []], videos=[film])
    assert batch["frame_counts"].tolist() == [3, 1]
    assert torch.equal(batch["pixel_values"][3], small.place(still).pixels)
    assert torch.equal(batch["pixel_values"][1], small.place(film[1]).pixels)
    model = tiny_model(tiny_config())
    assert new_tokens(model, batch, max_new_tokens=2, do_sample=False, eos_token_id=399, pad_token_id=0).shape == (2, 2)


def test_what_is_given_twice_or_in_vain_is_refused_and_none_is_as_if_not_given(small):
    model = tiny_model(tiny_config("llama"))
    batch = dict(one(small, samples()[0]))
    embeds = model.get_input_embeddings()(batch["input_ids"].clamp(min=0))
    others = dict.fromkeys(("inputs_embeds", "past_key_values", "use_cache", "output_attentions", "return_dict"))
    with torch.no_grad():
        assert torch.equal(model(**batch, **others).logits, model(**batch).logits)
    rest = {name: tensor for name, tensor in batch.items() if name != "input_ids"}
    text = torch.tensor([[1, 5, 6]])
    for name, attempt in {
        "inputs_embeds": lambda: model.generate(input_ids=text, inputs_embeds=embeds, max_new_tokens=1),
        "pixel_values stand": lambda: model(inputs_embeds=embeds, **rest),
        "placeholder": lambda: model(input_ids=batch["input_ids"]),
    }.items():
        with pytest.raises(ValueError, match=name):
            attempt()
