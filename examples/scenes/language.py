"""Stage 0 of the language model: its tokenizer, its shape, and how it learns to read scenes that are told in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from lessons import COLUMNS, DRILL, EMPTY, MEASURES, ROWS, drill, easier, told, turns
from looking import SPACE, Looks, Sample, missed, watched
from questions import CAPTION, caption, conversation
from sprites import names, plural
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from world import COLOURS, SIGN, SIGNS, arrange

from mgtool.model.processor import EncodedText, MGLlavaProcessor
from mgtool.model.splice import IGNORED, splice

SPECIAL = ("<pad>", "<s>", "</s>")
VOCABULARY = 1024
CORPUS = 3000
WIDTH = 192
LOUD = 5.0
FADED = 0.3
"""How far the strength of a word may be from what it should be: towers do not tell all that is seen equally well."""
TEMPLATE = "vicuna"


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
        asked += [(CAPTION, caption(scene)), (DRILL, drill(scene, Random(number)))]
        texts += [text for turn in asked for text in turn]
    return [*texts, *(["USER: ASSISTANT:"] * CORPUS)]


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
        seed: of how words are faded; None where none is.
        exact: whether heads that count are held to exact shares, see `looking.missed`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    told: list[Tensor]
    seed: int | None = None
    exact: bool = True


class Reading(nn.Module):
    """The language model, with the sum of its words in the place of each visual token, and the losses.

    Beside the loss on answers, some heads are shown where to look, see `Looks`. Left to itself, the model took
    thousands of steps to match any names.
    """

    def __init__(self, words: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.llm = LlamaForCausalLM(llm_config(len(words)))
        _begin(self.llm.model)
        self.looks = Looks(words)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses."""
        layers, gazes = self.llm.model.layers, self.looks.gazes
        with watched(layers, gazes) as given:
            guessed, expected = self.answers(batch)
        samples = [sample(batch, row) for row in range(len(batch.told))]
        shown = {
            gaze.name: missed(layers[gaze.layer].self_attn, gaze, samples, given[gaze.layer], exact=batch.exact)
            for gaze in gazes
        }
        return {"answers": functional.cross_entropy(guessed.float(), expected), **shown}

    def answers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (N, vocabulary) of the N answer tokens, few beside all that tell a scene, and their ids."""
        embed = self.llm.get_input_embeddings()
        spliced = splice(batch.input_ids, batch.attention_mask, self.visuals(batch), embed, batch.labels)
        states = self.llm.model(
            inputs_embeds=spliced.inputs_embeds,
            attention_mask=spliced.attention_mask,
            position_ids=spliced.position_ids,
        ).last_hidden_state[:, :-1]
        expected = spliced.labels[:, 1:]
        answers = expected != IGNORED
        return self.llm.lm_head(states[answers]), expected[answers]

    def visuals(self, batch: Batch) -> list[Tensor]:
        """The visual tokens of each scene, (V, H)."""
        embed = self.llm.get_input_embeddings()
        if batch.seed is None:
            return [summed(ids, embed) for ids in batch.told]
        return faded(batch.told, embed, batch.seed)


@torch.no_grad()
def _begin(llm: nn.Module) -> None:
    """Words are louder than what layers add to them, and what a head looks at comes out as it was.

    So a layer finds the words of the one before, as in a trained model's copying heads.
    """
    llm.get_input_embeddings().weight.mul_(LOUD)
    llm.norm.weight.div_(LOUD)
    for layer in llm.layers:
        nn.init.orthogonal_(layer.self_attn.v_proj.weight)
        layer.self_attn.o_proj.weight.copy_(layer.self_attn.v_proj.weight.T)
        layer.mlp.down_proj.weight.div_(LOUD)


def sample(batch: Batch, row: int) -> Sample:
    """One conversation with the tokens of its scene."""
    real, shown = batch.attention_mask[row].bool(), batch.told[row]
    ids, labels = batch.input_ids[row][real], batch.labels[row][real]
    first = int((ids < 0).nonzero())
    ids, labels = (
        torch.cat([values[:first], values.new_full((len(shown),), none), values[first + 1 :]])
        for values, none in ((ids, 0), (labels, IGNORED))
    )
    return Sample(ids, labels, first, shown)


def load(
    words: PreTrainedTokenizerFast,
    split: str,
    first: int,
    count: int,
    *,
    grown: float = 1.0,
    searching: bool = False,
    fade: bool = False,
    exact: bool = True,
) -> Batch:
    """Conversations about scenes `first` to `first + count`; see `easier`, `turns` and `Batch`."""
    asked, bags = [], []
    for number in range(first, first + count):
        rng = Random(f"{split} {number} told")
        scene = easier(arrange(split, number), grown, rng)
        asked.append(turns(scene, rng, searching=searching))
        bags.append(told(scene, rng, with_grid=rng.random() < grown))
    return replace(batched(words, asked, bags), seed=first if fade else None, exact=exact)


def batched(
    words: PreTrainedTokenizerFast,
    asked: list[list[tuple[str, str]]],
    bags: list[list[list[str]]],
) -> Batch:
    """The turns of each conversation with the words of its visual tokens."""
    processor = MGLlavaProcessor(words, template=TEMPLATE)
    encoded = [_graded(processor.encode(conversation), words) for conversation in asked]
    ids, labels = ([getattr(one, name) for one in encoded] for name in ("ids", "labels"))
    mask = [[1] * len(one.ids) for one in encoded]
    shown = [token_ids(words_of_scene, words) for words_of_scene in bags]
    return Batch(_padded(ids, 0), _padded(mask, 0), _padded(labels, IGNORED), shown)


def _graded(encoded: EncodedText, words: PreTrainedTokenizerFast) -> EncodedText:
    """Without a loss on what a drill asks."""
    answers, asks = words.convert_tokens_to_ids([f"{SPACE}=", ","])
    if answers not in encoded.ids:
        return encoded
    labels, answering = [], False
    for token, label in zip(encoded.ids, encoded.labels, strict=True):
        answering = token == answers or (answering and token != asks)
        labels.append(label if answering and token != answers else IGNORED)
    return EncodedText(encoded.ids, labels)


def token_ids(bags: list[list[str]], words: PreTrainedTokenizerFast) -> Tensor:
    """The tokens of the words of each visual token, (V, K) int64, zeros behind the last."""
    return _padded([words.convert_tokens_to_ids([f"{SPACE}{word}" for word in bag]) for bag in bags], 0)


def summed(ids: Tensor, embed: nn.Module) -> Tensor:
    """(V, K) tokens, zeros being none -> (V, H), the sums of their embeddings."""
    return (embed(ids) * (ids != 0)[..., None]).sum(dim=1)


def faded(told: list[Tensor], embed: nn.Module, seed: int) -> list[Tensor]:
    """As `summed` for each scene, but words are louder or fainter than they should be, and something is heard beside.

    So names are matched as they will have to be: what projectors make of pictures is no exact sum of words.
    """
    chance = torch.Generator().manual_seed(seed)
    visuals = []
    for ids in told:
        words = embed(ids) * (ids != 0)[..., None]
        strengths = 1 + FADED * torch.randn(*ids.shape, 1, generator=chance)
        beside = FADED * embed.weight.detach().std() * torch.randn(words.shape[::2], generator=chance)
        visuals.append((words * strengths).sum(dim=1) + beside)
    return visuals


def _padded(rows: list[list[int]], value: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def accuracy(module: Reading, words: PreTrainedTokenizerFast, count: int = 64) -> dict[str, Any]:
    """As `answered`, of scenes that no training shows."""
    return answered(module, load(words, "val", 0, count))


def answered(module: Reading, batch: Batch) -> dict[str, Any]:
    """The share of answer tokens that are guessed, their context given."""
    guessed, expected = module.answers(batch)
    written = expected != module.llm.config.eos_token_id
    return {"answer_tokens": (guessed.argmax(-1) == expected)[written].float().mean().item()}
