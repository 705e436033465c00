"""Stage 0 of the language model: its tokenizer, and answering questions about scenes that are told in words."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import torch
from questions import CAPTION, caption, conversation
from sprites import names, plural
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from towers import GRID, cell_of
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from world import SIGN, SIZES, Scene, arrange

from mgtool.model.processor import MGLlavaProcessor
from mgtool.model.splice import IGNORED

SPECIAL = ("<pad>", "<s>", "</s>")
VOCABULARY = 1024
CORPUS = 3000
EMPTY = "."
TEMPLATE = "vicuna"
CAPTIONS = 0.2
"""Share of samples that are captions."""


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes joined to words: every word of the world is one token, and any other text can still be written."""
    bytewise = Tokenizer(models.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bytewise.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    bytewise.train_from_iterator(_corpus(), trainer)
    pad, bos, eos = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, pad_token=pad, bos_token=bos, eos_token=eos)


def _corpus() -> list[str]:
    words = [form for name in (*names(), SIGN) for form in (name, plural(name))]
    texts = [f" {word}" for word in words for _ in range(20)]
    for number in range(CORPUS):
        texts += [text for turn in turns(arrange("train", number), Random(number)) for text in turn]
    return [*texts, *(["USER: ASSISTANT:"] * CORPUS)]


def told(scene: Scene, rng: Random) -> str:
    """A scene in words, in the order in which the model sees a picture: the places of the grid, then the objects."""
    cells = [EMPTY] * GRID**2
    for thing in sorted(scene.things, key=lambda thing: thing.size):
        cells[cell_of(thing)] = thing.name
    things = rng.sample(scene.things, len(scene.things))
    listed = (" ".join(filter(None, (thing.name, _size(thing.size), thing.tile, thing.text))) for thing in things)
    return f"{' '.join(cells)}\n{', '.join(listed)}"


def _size(size: int) -> str:
    """One of nine sizes, on a scale of ratios."""
    return str(1 + round(8 * math.log(max(size, SIZES[0]) / SIZES[0]) / math.log(SIZES[-1] / SIZES[0])))


def turns(scene: Scene, rng: Random) -> list[tuple[str, str]]:
    """A conversation about a scene that its first turn tells in words."""
    asked = [(question.text, question.answer) for question in conversation(scene, rng)]
    if rng.random() < CAPTIONS:
        asked = [(CAPTION, caption(scene))]
    question, answer = asked[0]
    return [(f"{told(scene, rng)}\n{question}", answer), *asked[1:]]


def llm_config(vocabulary: int) -> LlamaConfig:
    """A small Llama."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


class Reading(nn.Module):
    """The language model with the loss on answers."""

    def __init__(self, words: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.llm = LlamaForCausalLM(llm_config(len(words)))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses."""
        return {"answers": self.llm(**batch).loss}


def load(words: PreTrainedTokenizerFast, split: str, first: int, count: int) -> dict[str, Tensor]:
    """Conversations about scenes `first` to `first + count`: input_ids, attention_mask, labels (B, T) int64."""
    processor = MGLlavaProcessor(words, template=TEMPLATE)
    encoded = []
    for number in range(first, first + count):
        rng = Random(f"{split} {number} told")
        encoded.append(processor.encode(turns(arrange(split, number), rng)))
    most = max(len(one.ids) for one in encoded)
    ids = torch.tensor([one.ids + [0] * (most - len(one.ids)) for one in encoded])
    mask = torch.tensor([[1] * len(one.ids) + [0] * (most - len(one.ids)) for one in encoded])
    labels = torch.tensor([one.labels + [IGNORED] * (most - len(one.labels)) for one in encoded])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def accuracy(module: Reading, words: PreTrainedTokenizerFast, count: int = 64) -> dict[str, Any]:
    """The share of answer tokens that are guessed, their context given."""
    batch = load(words, "val", 0, count)
    guessed = module.llm(**batch).logits[:, :-1].argmax(-1)
    expected = batch["labels"][:, 1:]
    answers = (expected != IGNORED) & (expected != words.eos_token_id)
    return {"answer_tokens": (guessed == expected)[answers].float().mean().item()}
