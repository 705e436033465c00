"""Stage 0 of the language model: its tokenizer, its shape, and how it learns to read scenes that are told in words."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from lessons import COLUMNS, DRILL, EMPTY, MEASURES, ROWS, drill, easier, told, turns
from questions import CAPTION, caption, conversation
from sprites import names, plural
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from world import COLOURS, SIGN, SIGNS, arrange

from mgtool.model.processor import EncodedText, MGLlavaProcessor
from mgtool.model.splice import IGNORED, splice

SPECIAL = ("<pad>", "<s>", "</s>")
VOCABULARY = 1024
CORPUS = 3000
SPACE = "\u0120"
"""As the tokenizer writes the one before a word."""
WIDTH = 192
LOUD = 5.0
TEMPLATE = "vicuna"
LOOKING, WHERE, EACH = 1, 0, 1
"""The layer and the heads that are shown where to look."""


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
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    told: list[Tensor]


class Reading(nn.Module):
    """The language model, with the sum of its words in the place of each visual token, and the losses.

    Beside the loss on answers, two heads are shown where to look: from a name in the text, `WHERE` to the places that
    hold it, and `EACH` to the objects of that name and the first token alike, so that their number can be told from
    what that one gets. Without a match both look at the first token. Left to itself, the model took thousands of steps
    to match any names.
    """

    def __init__(self, words: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.llm = LlamaForCausalLM(llm_config(len(words)))
        _begin(self.llm.model)
        singular, placed = _read_words(words)
        self.register_buffer("singular", singular, persistent=False)
        self.register_buffer("placed", placed, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses."""
        attention = self.llm.model.layers[LOOKING].self_attn
        given: dict[str, Any] = {}
        hook = attention.register_forward_pre_hook(lambda _, args, kwargs: given.update(kwargs), with_kwargs=True)
        guessed, expected = self.answers(batch)
        hook.remove()
        return {"answers": functional.cross_entropy(guessed.float(), expected), "looks": self._looks(batch, **given)}

    def _looks(self, batch: Batch, hidden_states: Tensor, position_embeddings: Any, **_: Any) -> Tensor:
        """Cross entropy of the two heads' attention with what they are to look at."""
        attention = self.llm.model.layers[LOOKING].self_attn
        shape = (*hidden_states.shape[:2], -1, attention.head_dim)
        queries, keys = (
            project(hidden_states).view(shape)[:, :, [WHERE, EACH]].transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj)
        )
        queries, keys = apply_rotary_pos_emb(queries, keys, *position_embeddings)
        losses = []
        for row, shown in enumerate(batch.told):
            wanted, asking = self._wanted(batch, row, shown)
            length = wanted.shape[-1]
            places = asking + hidden_states.shape[1] - length
            logits = queries[row][:, places] @ keys[row][:, -length:].transpose(-1, -2) * attention.scaling
            future = torch.arange(length) > asking[:, None]
            losses.append(-(wanted * logits.float().masked_fill(future, -1e4).log_softmax(-1)).sum(-1).flatten())
        return torch.cat(losses).mean()

    def _wanted(self, batch: Batch, row: int, shown: Tensor) -> tuple[Tensor, Tensor]:
        """For a sample of length L: what its N names look at, (2, N, L), and their positions (N,)."""
        ids = batch.input_ids[row][batch.attention_mask[row].bool()]
        before = int((ids < 0).nonzero())
        text = torch.cat([ids[:before], ids.new_zeros(len(shown)), ids[before + 1 :]])
        asking = (self.singular[text] >= 0).nonzero().flatten()
        same = (shown[None] == self.singular[text[asking], None, None]).any(dim=-1)
        placed = self.placed[shown].any(dim=-1)
        listed = placed if placed.all() else ~placed
        wanted = torch.zeros(2, len(asking), len(text))
        wanted[WHERE, :, before : before + len(shown)] = (same & placed).float()
        wanted[EACH, :, before : before + len(shown)] = (same & listed).float()
        wanted[EACH, :, 0] = 1
        wanted[WHERE, :, 0] = (wanted[WHERE].sum(dim=-1) == 0).float()
        return wanted / wanted.sum(dim=-1, keepdim=True), asking

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


def _read_words(words: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """For each token the one of its singular, or -1 where it is no name; and whether it tells a place."""

    def token(word: str) -> int:
        return int(words.convert_tokens_to_ids(f"{SPACE}{word}"))

    singular, placed = torch.full((len(words),), -1), torch.zeros(len(words), dtype=torch.bool)
    for name in names():
        singular[[token(name), token(plural(name))]] = token(name)
    placed[[token(word) for word in (*ROWS, *COLUMNS)]] = True
    return singular, placed


def load(
    words: PreTrainedTokenizerFast,
    split: str,
    first: int,
    count: int,
    *,
    grown: float = 1.0,
    searching: bool = False,
) -> Batch:
    """Conversations about scenes `first` to `first + count`, at 0 of the easiest kind; see `easier` and `turns`."""
    processor = MGLlavaProcessor(words, template=TEMPLATE)
    encoded, shown = [], []
    for number in range(first, first + count):
        rng = Random(f"{split} {number} told")
        scene = easier(arrange(split, number), grown, rng)
        encoded.append(_graded(processor.encode(turns(scene, rng, searching=searching)), words))
        shown.append(token_ids(told(scene, rng, with_grid=rng.random() < grown), words))
    ids, labels = ([getattr(one, name) for one in encoded] for name in ("ids", "labels"))
    mask = [[1] * len(one.ids) for one in encoded]
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


def _padded(rows: list[list[int]], value: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def accuracy(module: Reading, words: PreTrainedTokenizerFast, count: int = 64) -> dict[str, Any]:
    """The share of answer tokens that are guessed, their context given."""
    guessed, expected = module.answers(load(words, "val", 0, count))
    written = expected != words.eos_token_id
    return {"answer_tokens": (guessed.argmax(-1) == expected)[written].float().mean().item()}
