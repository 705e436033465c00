"""What object tokens did to an answer: how its log-probability changes when each of them is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from mgtool.errors import ItemError
from mgtool.inference.attention import Prefix, View, shared_prefixes
from mgtool.inference.cache_support import CacheSupport
from mgtool.inference.memory import is_scarce
from mgtool.inference.picture_loader import MediaInput
from mgtool.inference.scheduler import Group
from mgtool.inference.served import ServedModel
from mgtool.records import Detections

ROW_TOKENS = 1 << 13
"""Tokens that are computed at once, without a box each time."""
LOGITS = 1 << 27
"""Numbers of all logits that are in memory at once."""

Visuals = Callable[[Group], Sequence[Tensor]]


class Explanation(NamedTuple):
    """What the object tokens of one prompt did.

    Attributes:
        logprob: of the whole answer, its end token included where it has one.
        changes: for each picture or frame, for each of its object tokens, what is added to that without the token.
    """

    logprob: float
    changes: list[list[float]]


class BoxExplainer:
    """Leaves out one object token after the other, over what comes before them.

    A picture whose only object is left out gets the stand-in that pictures without objects have.

    Args:
        model: whose pictures have object tokens behind their vision tokens.
        visuals: what stands at the placeholders of a group's prompts.
    """

    def __init__(self, model: ServedModel, visuals: Visuals) -> None:
        self.model, self.visuals = model, visuals
        self._shares = model.shares_prefixes()
        self._rows: int | None = None  # once memory did not suffice for more

    @torch.inference_mode()
    def explain(self, prompt: Group, answer: Sequence[int]) -> Explanation:
        """What each object token did to an answer.

        Args:
            prompt: a group of one prompt.
            answer: its new token ids, at least one.

        Raises:
            ItemError: ``out_of_memory`` where not even one row fits.
        """
        visuals, tokens = self.visuals(prompt), torch.tensor([list(answer)], device=self.model.device)
        whole = self.model.splice([prompt.prompts[0]], visuals).inputs_embeds
        embeds = torch.cat([whole, self.model.get_input_embeddings()(tokens[:, :-1])], dim=1)
        scoring, changes = _Scoring(self, embeds, tokens[0]), []
        logprob = scoring.logprobs(scoring.start(), [embeds[0]])[0]
        for picture, (begin, end) in enumerate(self._spans(prompt, visuals)):
            rows = [torch.cat([embeds[0, :at], embeds[0, at + 1 :]]) for at in range(begin, end)]
            if len(rows) == 1:
                rows = [torch.cat([embeds[0, :begin], self._stand_in(prompt, picture), embeds[0, end:]])]
            found = scoring.logprobs(scoring.up_to(begin), rows) if rows else []
            changes.append([one - logprob for one in found])
        return Explanation(logprob, changes)

    def _spans(self, prompt: Group, visuals: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
        """Where each picture's object tokens stand in the spliced prompt; an empty stretch for a stand-in."""
        counts = [len(picture.boxes) for picture in prompt.pictures]
        named = [bool(picture.labels) for picture in prompt.pictures]
        vision, place, pictures = self.model.vision_tokens, 0, iter(zip(counts, named, strict=True))
        supply = iter(visuals)
        for token in prompt.prompts[0]:
            if token >= 0:
                place += 1
                continue
            end = place + len(next(supply))
            while place < end:
                count, is_named = next(pictures)
                place += vision + count
                yield place - count, place if is_named else place - count

    def _stand_in(self, prompt: Group, picture: int) -> Tensor:
        """(1, H), the token of a picture without objects."""
        one = prompt.pictures[picture]
        bare = one._replace(boxes=torch.zeros_like(one.boxes[:1]), labels=())
        [visual] = self.model.see(Group(("",), [bare], prompt.numbers, prompt.prompts))
        return visual[-1:].to(self.model.dtype)

    def most_rows(self, length: int, logits: int) -> int:
        """Rows that are computed at once; of so many tokens each, and logits."""
        fitting = max(1, min(ROW_TOKENS // length, LOGITS // logits))
        return fitting if self._rows is None else min(self._rows, fitting)

    def with_less(self, rows: int, error: RuntimeError) -> None:
        """Note that so many rows did not fit; the error where it was one, or was about something else."""
        if not is_scarce(error):
            raise error
        if rows == 1:
            raise ItemError("out_of_memory", "one object less does not fit into memory") from error
        self._rows = rows // 2

    @property
    def shares(self) -> bool:
        """Whether the language model computes rows over a prefix."""
        return self._shares


def notes_of(explanation: Explanation, prompt: Group, media: Sequence[MediaInput]) -> dict[str, Any]:
    """An explanation as an answer's metadata: what each box of the picture did, the most first.

    Args:
        explanation: of an answer.
        prompt: what was asked.
        media: the files that its pictures are from, in order.
    """
    found = [(number, one) for number, file in enumerate(media) for one in _detections(file)]
    boxes = []
    for place, (picture, changes) in enumerate(zip(prompt.pictures, explanation.changes, strict=True)):
        number, detections = found[place]
        shown = {"frame": place} if prompt.is_video else {"picture": number} if len(media) > 1 else {}
        for kept, change in zip(picture.kept, changes, strict=False):
            box = [round(float(edge), 2) for edge in detections.boxes[kept]]
            boxes.append({**shown, "box": box, "label": detections.labels[kept], "change": round(change, 4)})
    return {"logprob": round(explanation.logprob, 4), "boxes": sorted(boxes, key=lambda one: -abs(one["change"]))}


def _detections(file: MediaInput) -> Sequence[Detections]:
    return file.detections or [Detections()] * file.pictures


class _Scoring:
    """Log-probabilities of one answer behind several forms of its prompt."""

    def __init__(self, explainer: BoxExplainer, embeds: Tensor, answer: Tensor) -> None:
        self.explainer, self.embeds, self.answer = explainer, embeds, answer
        self.language_model = explainer.model.language_model
        self._cache, self._length = DynamicCache(), 0

    def start(self) -> Prefix:
        """Nothing is shared."""
        return Prefix([], [], 0)

    def up_to(self, length: int) -> Prefix:
        """Keys and values of the prompt's first tokens, computed once where prompts are asked about in order."""
        if not self.explainer.shares:
            return self.start()
        if length > self._length:
            part = self.embeds[:, self._length : length]
            self.language_model(inputs_embeds=part, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
            self._length = length
        return Prefix.of(self._cache)

    def logprobs(self, prefix: Prefix, rows: Sequence[Tensor]) -> list[float]:
        """Of the answer behind each of some rows (tokens, H), all of one length, which begin with the prefix."""
        found: list[float] = []
        vocabulary = len(self.explainer.model.get_input_embeddings().weight)
        while len(found) < len(rows):
            most = self.explainer.most_rows(len(rows[0]) - prefix.length, len(self.answer) * vocabulary)
            part = rows[len(found) : len(found) + (most if self.explainer.shares else 1)]
            try:
                logits = self._over(prefix, part) if self.explainer.shares else self._alone(part[0])
            except RuntimeError as error:
                self.explainer.with_less(len(part), error)
                continue
            values = logits.log_softmax(-1).gather(-1, self.answer.expand(len(part), -1)[..., None])
            found += values.double().sum((1, 2)).tolist()
        return found

    def _over(self, prefix: Prefix, rows: Sequence[Tensor]) -> Tensor:
        """(R, A, vocabulary) float32."""
        ends = torch.stack([row[prefix.length :] for row in rows])
        places = prefix.length + torch.arange(ends.shape[1], device=ends.device)
        positions = places.expand(len(ends), -1)
        view = View([(slice(None), prefix)], positions, positions)
        with shared_prefixes(self.language_model):
            output = self.language_model(
                inputs_embeds=ends,
                position_ids=positions,
                past_key_values=DynamicCache(),
                use_cache=True,
                logits_to_keep=len(self.answer),
                view=view,
            )
        logits: Tensor = output.logits[:, -len(self.answer) :].float()
        return logits

    def _alone(self, row: Tensor) -> Tensor:
        """(1, A, vocabulary) float32, of a model that shares nothing."""
        rope: Any = CacheSupport.of(self.language_model).rope
        if rope is not None:
            rope.reset()
        output = self.language_model(inputs_embeds=row[None], use_cache=False)
        logits: Tensor = output.logits[:, -len(self.answer) :].float()
        return logits
