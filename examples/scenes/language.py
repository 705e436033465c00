"""Stage 0 of the language model: its tokenizer, and answering questions about scenes that are told in words."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from questions import CAPTION, caption, conversation
from sprites import names, plural
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from towers import GRID, cell_of
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from world import COLOURS, SIGN, SIGNS, SIZE, SIZES, Scene, Thing, arrange

from mgtool.model.processor import MGLlavaProcessor
from mgtool.model.splice import IGNORED, splice

SPECIAL = ("<pad>", "<s>", "</s>")
VOCABULARY = 1024
CORPUS = 3000
EMPTY = "."
SPACE = "\u0120"
"""As the tokenizer writes the one before a word."""
ROWS, COLUMNS, MEASURES = (tuple(f"{kind}{letter}" for letter in "abcdefghi") for kind in ("row", "column", "size"))
"""Words of no text: places of the grid, and sizes."""
LISTED = 0.75
FEWEST = 2
EASY, GROWN = 8_000, 32_000
"""Until the first, scenes have `FEWEST` objects; from the second on they come whole. A match is learned among few."""
WIDTH = 192
TEMPLATE = "vicuna"
INVENTORY = "List the objects."
CAPTIONS = 0.4
"""Share of samples that end with the caption; the others end with the inventory."""


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
    words += [EMPTY, *ROWS, *COLUMNS, *MEASURES, *COLOURS, *SIGNS]
    texts = [f" {word}" for word in words for _ in range(20)]
    for number in range(CORPUS):
        scene = arrange("train", number)
        asked = [(question.text, question.answer) for question in conversation(scene, Random(number))]
        texts += [text for turn in [(CAPTION, caption(scene)), (INVENTORY, ""), *asked] for text in turn]
    return [*texts, *(["USER: ASSISTANT:"] * CORPUS)]


def told(scene: Scene, rng: Random, *, with_grid: bool = True) -> list[list[str]]:
    """A scene as the model will see it, in words: for each visual token those that it stands for.

    First the places of the grid, row by row, with the largest object that has its centre there; then, as of a detector
    that misses nothing, the objects. Some scenes come without this list, so that both ways are learned; `with_grid`
    False leaves the grid out, and the list tells the places.
    """
    listed = rng.sample(scene.things, len(scene.things))
    if not with_grid:
        return [[*described(thing), *_place(cell_of(thing))] for thing in listed]
    cells = grid(scene)
    return cells + [described(thing) for thing in listed] if rng.random() < LISTED else cells


def grid(scene: Scene) -> list[list[str]]:
    """The words of each place, row by row."""
    cells = [[EMPTY] for _ in range(GRID**2)]
    for thing in sorted(scene.things, key=lambda thing: thing.size):
        cells[cell_of(thing)] = described(thing)
    return [[*words, *_place(number)] for number, words in enumerate(cells)]


def _place(cell: int) -> tuple[str, str]:
    return ROWS[cell // GRID], COLUMNS[cell % GRID]


def described(thing: Thing) -> list[str]:
    """The words of an object."""
    return [word for word in (thing.name, thing.tile, thing.text, _size(thing.size)) if word]


def _size(size: int) -> str:
    """One of nine sizes, on a scale of ratios."""
    return MEASURES[round(8 * math.log(max(size, SIZES[0]) / SIZES[0]) / math.log(SIZES[-1] / SIZES[0]))]


def easier(scene: Scene, grown: float, rng: Random) -> Scene:
    """A scene with fewer objects: `FEWEST` at 0, all at 1."""
    count = min(len(scene.things), FEWEST + round(grown * len(scene.things)))
    things = tuple(rng.sample(scene.things, count))
    kept = {thing.name for thing in things} - {SIGN}
    counted = scene.counted if scene.counted in kept else rng.choice(sorted(kept))
    return dataclasses.replace(scene, things=things, counted=counted)


def grown_at(number: int) -> float:
    """How far scenes have grown when training comes to this one, for `easier`."""
    return min(1.0, max(0.0, (number - EASY) / (GROWN - EASY)))


def turns(scene: Scene, rng: Random) -> list[tuple[str, str]]:
    """A conversation about a scene that its first turn shows, and what tells everything: caption or inventory."""
    asked = [(question.text, question.answer) for question in conversation(scene, rng)]
    everything = (CAPTION, caption(scene)) if rng.random() < CAPTIONS else (INVENTORY, inventory(scene))
    (question, answer), *others = [*asked, everything]
    return [(f"<image>\n{question}", answer), *others]


def inventory(scene: Scene) -> str:
    """Each object with its quarter, tile and text, row by row: what belongs to a name is learned right behind it."""
    things = sorted(scene.things, key=lambda thing: (cell_of(thing), thing.size))
    return ", ".join(" ".join(filter(None, (thing.name, _quarter(thing), thing.tile, thing.text))) for thing in things)


def _quarter(thing: Thing) -> str:
    x, y = thing.centre
    return f"{'top' if y < SIZE / 2 else 'bottom'} {'left' if x < SIZE / 2 else 'right'}"


def llm_config(vocabulary: int, *, initializer_range: float = WIDTH**-0.5) -> LlamaConfig:
    """A small Llama.

    Wide heads and slow rotations let it match names over the whole grid. Weights begin at 1 / sqrt(width): where they
    began as small as usual, all names were pushed together before any of them was told from the others.
    """
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        initializer_range=initializer_range,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


@dataclass(frozen=True)
class Batch:
    """Conversations about B scenes.

    Attributes:
        input_ids, attention_mask, labels: (B, T) int64, with a placeholder for each scene.
        told: for each scene (V, K) int64, the words of its visual tokens, padded with the padding token.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    told: list[Tensor]


class Reading(nn.Module):
    """The language model, with the sum of its words in the place of each visual token, and the loss on answers."""

    def __init__(self, words: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.llm = LlamaForCausalLM(llm_config(len(words)))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses."""
        guessed, expected = self.answers(batch)
        return {"answers": functional.cross_entropy(guessed.float(), expected)}

    def answers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (N, vocabulary) of the N answer tokens, few beside all that tell a scene, and their ids."""
        embed = self.llm.get_input_embeddings()
        visuals = [summed(ids, embed) for ids in batch.told]
        spliced = splice(batch.input_ids, batch.attention_mask, visuals, embed, batch.labels)
        states = self.llm.model(
            inputs_embeds=spliced.inputs_embeds,
            attention_mask=spliced.attention_mask,
            position_ids=spliced.position_ids,
        ).last_hidden_state[:, :-1]
        expected = spliced.labels[:, 1:]
        answers = expected != IGNORED
        return self.llm.lm_head(states[answers]), expected[answers]


def load(words: PreTrainedTokenizerFast, split: str, first: int, count: int, *, grown: float = 1.0) -> Batch:
    """Conversations about scenes `first` to `first + count`, at 0 of the easiest kind; see `easier`."""
    processor = MGLlavaProcessor(words, template=TEMPLATE)
    encoded, shown = [], []
    for number in range(first, first + count):
        rng = Random(f"{split} {number} told")
        scene = easier(arrange(split, number), grown, rng)
        encoded.append(processor.encode(turns(scene, rng)))
        shown.append(token_ids(told(scene, rng, with_grid=rng.random() < grown), words))
    ids, labels = ([getattr(one, name) for one in encoded] for name in ("ids", "labels"))
    mask = [[1] * len(one.ids) for one in encoded]
    return Batch(_padded(ids, 0), _padded(mask, 0), _padded(labels, IGNORED), shown)


def token_ids(bags: list[list[str]], words: PreTrainedTokenizerFast) -> Tensor:
    """The tokens of the words of each visual token, (V, K) int64, zeros behind the last."""
    return _padded([words.convert_tokens_to_ids([f"{SPACE}{word}" for word in bag]) for bag in bags], 0)


def summed(ids: Tensor, embed: nn.Module) -> Tensor:
    """(V, K) tokens, zeros being none -> (V, H), the sums of their embeddings."""
    return (embed(ids) * (ids != 0)[..., None]).sum(dim=1)


def _padded(rows: list[list[int]], value: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def accuracy(module: Reading, words: PreTrainedTokenizerFast, count: int = 64) -> dict[str, Any]:
    """The share of answer tokens that are guessed, their context given."""
    guessed, expected = module.answers(load(words, "val", 0, count))
    written = expected != words.eos_token_id
    return {"answer_tokens": (guessed.argmax(-1) == expected)[written].float().mean().item()}
