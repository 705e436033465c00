"""Pictures, boxes and text -> what the model takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin
from transformers.processing_utils import MultiModalData

from mgtool.boxes.placement import BoxRules, Framed, Framing
from mgtool.errors import ItemError
from mgtool.media.placeholders import IMAGE, PLACEHOLDER, VIDEO, Exchange
from mgtool.model import joined
from mgtool.model.batches import (
    converted,
    copies,
    flat_arguments,
    in_order,
    pad_as_asked,
    pad_left,
    padded_offsets,
    repeated,
)
from mgtool.model.config import IMAGE_TOKEN_ID, VIDEO_TOKEN_ID
from mgtool.model.inputs import Batch, as_films, as_picture, flatten, normalized_levels
from mgtool.model.inputs import PlacedPicture as PlacedPicture
from mgtool.model.splice import IGNORED
from mgtool.model.templates import Piece, Template, find_template, told_apart
from mgtool.records import Detections

PLACEHOLDERS = {IMAGE: IMAGE_TOKEN_ID, VIDEO: VIDEO_TOKEN_ID}
MAX_NEW_TOKENS = 100
"""The published evaluation's."""

_BESIDE_PLACEHOLDERS = re.compile(f"({PLACEHOLDER.pattern})")
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class EncodedText(NamedTuple):
    """A conversation as token ids with placeholders, and its labels (-100 where there is no loss)."""

    ids: list[int]
    labels: list[int]


class MGLlavaProcessor(ProcessorMixin):
    """Everything before the model: templates, tokens, placement and normalising of pictures, choice of boxes.

    Args:
        tokenizer: the language model's.
        template: what `mgtool.model.templates.find_template` takes.
        image_size: side S of the model frame in pixels.
        image_mean, image_std: of the low tower's training, RGB, 0 to 1.
        box_rules: fields of `BoxRules` that differ from the published ones.
        vision_tokens: of a picture; None leaves one placeholder for each picture, which the model takes, too.
        box_tokens: whether the model has a token for each box.
        image_token_id: the model's, at each vision and box token.
    """

    image_token, video_token = IMAGE, VIDEO

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | dict[str, Any] = "vicuna",
        image_size: int = 768,
        image_mean: Sequence[float] = _CLIP_MEAN,
        image_std: Sequence[float] = _CLIP_STD,
        box_rules: dict[str, Any] | None = None,
        vision_tokens: int | None = None,
        box_tokens: bool = True,
        image_token_id: int = IMAGE_TOKEN_ID,
        chat_template: str | None = None,
    ) -> None:
        self.template = template
        self.prompt: Template = find_template(template)
        self.image_size = image_size
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self._levels = normalized_levels(self.image_mean, self.image_std)
        self.box_rules = dict(box_rules or {})
        self.rules = BoxRules(**self.box_rules)
        self.vision_tokens, self.box_tokens, self.image_token_id = vision_tokens, box_tokens, image_token_id
        self._special_texts: tuple[int, re.Pattern[str] | None] | None = None
        super().__init__(tokenizer, chat_template=chat_template or self.prompt.to_jinja())

    def encode(self, turns: Sequence[Exchange], system: str = "") -> EncodedText:
        """Token ids of a conversation: text beside placeholders is tokenised by itself, without special tokens.

        Only the template gives special tokens: one that is spelt in a question, an answer or a system text is text.

        Raises:
            ItemError: ``bad_record`` where the system text holds a placeholder; in an answer it is text as any other.
        """
        if PLACEHOLDER.search(system):
            raise ItemError("bad_record", "a placeholder in the system text; pictures stand in questions")
        if self.prompt.joined:
            found = joined.stretches(self._pieces(turns, system), self._names, self._spelt(), PLACEHOLDER)
            return EncodedText(*joined.tokens(found, self.tokenizer, PLACEHOLDERS))
        ids: list[int] = []
        labels: list[int] = []
        for piece in self._pieces(turns, system):
            tokens = self._special(piece.special) if piece.special else self._piece_tokens(piece)
            ids += tokens
            labels += tokens if piece.learned else [IGNORED] * len(tokens)
        return EncodedText(ids, labels)

    @property
    def _names(self) -> dict[str, str]:
        """How a template's special tokens are spelt."""
        return {"bos": self.tokenizer.bos_token or "", "eos": self.tokenizer.eos_token or "", "": ""}

    def tokenize(self, turns: Sequence[Exchange], system: str = "") -> list[int]:
        """Token ids of a conversation with -200 and -201 in the place of ``<image>`` and ``<video>``."""
        return self.encode(turns, system).ids

    def tokenize_text(self, text: str) -> list[int]:
        """Token ids of a prompt that is rendered already; BOS is put in front where the template wants one."""
        bos = self.tokenizer.bos_token or "" if self.prompt.bos else ""
        text = text.removeprefix(bos)
        if self.prompt.joined:
            return self._tokens(bos + text)
        begin = self._special("bos") if self.prompt.bos else []
        return begin + [token for part in self._stretches(text) for token in self._tokens(part)]

    def render(self, turns: Sequence[Exchange]) -> str:
        """The prompt as text, placeholders and special tokens included."""
        names = self._names
        return "".join(names[piece.special] + piece.text for piece in self._pieces(turns))

    def place(
        self, picture: Image.Image, detections: Detections | None = None, *, per_label: int | None = None
    ) -> PlacedPicture:
        """A picture and what a detector saw in it, in the model frame.

        Args:
            picture: RGB.
            detections: boxes in the picture frame.
            per_label: keep at most this many boxes of each label (training on long texts).

        Raises:
            ItemError: ``bad_boxes``.
        """
        return self.normalize(self.framing.fit(picture, detections, per_label=per_label))

    @property
    def framing(self) -> Framing:
        """The part of `place` that needs no torch."""
        colour = tuple(int(255 * mean) for mean in self.image_mean)
        return Framing(self.image_size, colour, self.rules)

    def normalize(self, framed: Framed, *, pinned: bool = False) -> PlacedPicture:
        """The other part; `pinned` puts the pixels where a CUDA device fetches them by itself."""
        pixels = torch.empty(framed.planes.shape, pin_memory=pinned)
        for levels, plane, channel in zip(self._levels, framed.planes, pixels.numpy(), strict=True):
            np.take(levels, plane, out=channel, mode="clip")  # NumPy's other modes write by way of a copy
        return PlacedPicture(pixels, torch.from_numpy(framed.boxes.boxes), framed.boxes.labels, framed.boxes.kept)

    def collate(
        self,
        ids: Sequence[Sequence[int]],
        pictures: Sequence[PlacedPicture] = (),
        frame_counts: Sequence[int] | None = None,
        labels: Sequence[Sequence[int]] | None = None,
    ) -> BatchFeature:
        """A batch for the model, padded on the left, with a place for each visual token.

        Args:
            ids: B samples' token ids with placeholders.
            pictures: P pictures and frames, sample after sample.
            frame_counts: V numbers, pictures of each placeholder; None where each has one.
            labels: B samples' labels, for training.

        Returns:
            input_ids, attention_mask and labels (B, T) int64, and what `media` gives. Without pictures, the text alone.
        """
        counts = [1] * len(pictures) if frame_counts is None else list(frame_counts)
        if pictures:
            times = self._copies(ids, pictures, counts)
            place = self._place_token(ids)
            ids = [
                repeated([place if token < 0 and place is not None else token for token in row], each)
                for row, each in zip(ids, times, strict=True)
            ]
            if labels is not None:
                labels = [repeated(row, each) for row, each in zip(labels, times, strict=True)]
        tokens, mask = pad_left(ids, self.pad_token_id)
        batch = {"input_ids": tokens, "attention_mask": mask, **self.media(pictures, counts)}
        if labels is not None:
            batch["labels"] = pad_left(labels, IGNORED)[0]
        return Batch(batch)

    def media(self, pictures: Sequence[PlacedPicture], frame_counts: Sequence[int]) -> dict[str, Tensor]:
        """What the model takes beside ids: P pictures and frames, and of each placeholder the number of them.

        Returns:
            pixel_values (P, 3, S, S) float32; boxes (M, 4) float32; box_counts (P,) and frame_counts (V,) int64;
            nothing without pictures.
        """
        if not pictures:
            return {}
        return {
            "pixel_values": torch.stack([picture.pixels for picture in pictures]),
            "boxes": torch.cat([picture.boxes for picture in pictures]),
            "box_counts": torch.tensor([len(picture.boxes) for picture in pictures]),
            "frame_counts": torch.tensor(frame_counts),
        }

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        detections: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """A batch from rendered prompts, as other processors of transformers take it.

        Args:
            images: pictures (PIL, paths, URLs, arrays or tensors) in the order of the ``<image>`` placeholders; nested
                lists are flattened.
            text: one prompt or several, as `apply_chat_template` or `render` give them.
            videos: for each ``<video>`` a file, a list of frames, or an array or tensor of them; nested lists likewise.
            detections: nested as `images` and `videos` are, images first; None for no boxes.
            kwargs: `padding`, `padding_side`, `max_length` and `truncation` as of tokenizers; a prompt is never cut.
                `return_tensors` ``"pt"`` or ``"np"``; `num_frames` of each video. Others are warned of.

        Raises:
            ItemError: ``bad_record`` where placeholders and pictures do not agree.
            ValueError: boxes under another name, or a prompt longer than it may be.
        """
        if text is None:
            raise ItemError("empty_prompt", "the processor needs text")
        options = flat_arguments(kwargs)
        prompts = [text] if isinstance(text, str) else list(text)
        ids = [self.tokenize_text(prompt) for prompt in prompts]
        media = self._place_all(ids, images, as_films(videos, options.get("num_frames")), detections)
        pictures, counts = [picture for shot in media for picture in shot], [len(shot) for shot in media]
        batch = self.collate(ids, pictures, counts)
        pad_as_asked(batch, self.pad_token_id, options)
        if options.get("return_offsets_mapping"):
            times = self._copies(ids, pictures, counts)
            offsets = [repeated(self._offsets(prompt), each) for prompt, each in zip(prompts, times, strict=True)]
            batch["offset_mapping"] = padded_offsets(offsets, batch)
        return converted(batch, options.get("return_tensors"))

    def _place_all(
        self, ids: Sequence[Sequence[int]], images: Any, films: Sequence[Sequence[Any]], detections: Any
    ) -> list[list[PlacedPicture]]:
        """The pictures and boxes of each placeholder, in the order of the batch."""
        shots = [[still] for still in flatten(images)] + [list(film) for film in films]
        seen = iter(flatten(detections) or [None] * sum(map(len, shots)))
        placed = [[self.place(as_picture(picture), next(seen)) for picture in shot] for shot in shots]
        stills = len(shots) - len(films)
        return in_order(ids, placed[:stills], placed[stills:])

    def _get_num_multimodal_tokens(self, image_sizes: Sequence[Any] | None = None, **kwargs: Any) -> MultiModalData:
        """Tokens of pictures without known boxes, as transformers' tools ask for them."""
        tokens = (self.vision_tokens or 1) + self.box_tokens
        count = len(image_sizes or ())
        return MultiModalData(num_image_tokens=[tokens] * count, num_image_patches=[1] * count)

    def decode(self, token_ids: Any, *, stops: Sequence[str] = (), **kwargs: Any) -> str:
        """The answer's text: no special tokens, nothing from the template's end of an answer or a stop on, stripped."""
        kwargs.setdefault("skip_special_tokens", True)
        text = self.tokenizer.decode(self._without_places(token_ids), **kwargs)
        for stop in (*self.prompt.stop_strings, *stops):
            text = text.split(stop)[0]
        return text.strip()

    def batch_decode(self, sequences: Any, **kwargs: Any) -> list[str]:
        """The texts of several rows of token ids; placeholders leave none."""
        return [self.tokenizer.decode(self._without_places(row), **kwargs) for row in sequences]

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """The texts of a pipeline's output."""
        return self.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """What a batch with pictures holds."""
        return ["input_ids", "attention_mask", "pixel_values", "boxes", "box_counts", "frame_counts"]

    @property
    def pad_token_id(self) -> int:
        """The tokenizer's, or its EOS where it has none."""
        pad = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if pad is None else pad

    @property
    def eos_token_ids(self) -> list[int]:
        """Token ids that end an answer: EOS, and the template's end where that is one token."""
        ids = [self.tokenizer.eos_token_id]
        ids += [tokens[0] for tokens in map(self._tokens, self.prompt.stop_strings) if len(tokens) == 1]
        return list(dict.fromkeys(ids))

    @property
    def stop_strings(self) -> list[str]:
        """Texts that end an answer and take several tokens."""
        return [stop for stop in self.prompt.stop_strings if len(self._tokens(stop)) > 1]

    def generation_kwargs(self) -> dict[str, Any]:
        """What `generate` needs for the published evaluation: greedy, at most 100 tokens, the template's stops."""
        kwargs: dict[str, Any] = {
            "do_sample": False,
            "max_new_tokens": MAX_NEW_TOKENS,
            "eos_token_id": self.eos_token_ids,
            "pad_token_id": self.pad_token_id,
        }
        if self.stop_strings:
            kwargs |= {"stop_strings": self.stop_strings, "tokenizer": self.tokenizer}
        return kwargs

    def _copies(
        self, ids: Sequence[Sequence[int]], pictures: Sequence[PlacedPicture], frame_counts: Sequence[int]
    ) -> list[list[int]]:
        """How often each id of a batch stands in it; once, where pictures and placeholders do not agree."""
        found = sum(token < 0 for row in ids for token in row)
        if self.vision_tokens is None or found != len(frame_counts):
            return [[1] * len(row) for row in ids]
        each = iter([self.vision_tokens + self.box_tokens * len(picture.boxes) for picture in pictures])
        return copies(ids, [sum(next(each) for _ in range(count)) for count in frame_counts])

    def _place_token(self, ids: Sequence[Sequence[int]]) -> int | None:
        """What stands at visual tokens; None leaves placeholders, also where a text holds the model's token."""
        is_text = any(self.image_token_id in row for row in ids)
        return None if is_text or self.vision_tokens is None else self.image_token_id

    def _without_places(self, ids: Any) -> list[int]:
        row = ids.tolist() if hasattr(ids, "tolist") else ids
        return [one for one in ([row] if isinstance(row, int) else row) if one >= 0 and one != self.image_token_id]

    def _special(self, name: str) -> list[int]:
        token = self.tokenizer.bos_token_id if name == "bos" else self.tokenizer.eos_token_id
        return [] if token is None else [token]

    def _pieces(self, turns: Sequence[Exchange], system: str = "") -> Iterator[Piece]:
        """The conversation's; a BOS with which the template's own text begins does not stand there twice."""
        pieces = list(self.prompt.pieces(turns, system))
        for piece, following in zip(pieces, [*pieces[1:], Piece()], strict=True):
            bos = self.tokenizer.bos_token
            if not (piece.special == "bos" and bos and following.text.startswith(bos)):
                yield piece

    def _piece_tokens(self, piece: Piece) -> list[int]:
        tokens = self._text_tokens if piece.learned else self._tokens
        special = self._spelt()
        if special is None or not any(special.search(text) for text in piece.foreign):
            return tokens(piece.text)
        ids: list[int] = []
        for text, is_special in told_apart(piece, special):
            known = [self.tokenizer.convert_tokens_to_ids(text)] if is_special else None
            ids += tokens(text, split_special_tokens=True) if known is None else known
        return ids

    def _spelt(self) -> re.Pattern[str] | None:
        """What special tokens look like in a text."""
        if self._special_texts is None or self._special_texts[0] != len(self.tokenizer):
            added = self.tokenizer.added_tokens_decoder.values()
            texts = sorted({token.content for token in added if token.special and token.content}, key=len, reverse=True)
            known = re.compile("|".join(map(re.escape, texts))) if texts else None
            self._special_texts = len(self.tokenizer), known
        return self._special_texts[1]

    def _tokens(self, text: str, **options: Any) -> list[int]:
        ids: list[int] = []
        for chunk in _BESIDE_PLACEHOLDERS.split(text):
            ids += [PLACEHOLDERS[chunk]] if chunk in PLACEHOLDERS else self._text_tokens(chunk, **options)
        return ids

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        """The stretch of a rendered prompt that each id of `tokenize_text` stands for."""
        bos = self.tokenizer.bos_token or ""
        start = len(bos) if bos and text.startswith(bos) else 0
        found = [(0, start) for _ in self._special("bos")]
        for chunk in [chunk for part in self._stretches(text[start:]) for chunk in _BESIDE_PLACEHOLDERS.split(part)]:
            if chunk in PLACEHOLDERS:
                found.append((start, start + len(chunk)))
            elif chunk:
                known = self.tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True)
                found += [(start + first, start + end) for first, end in known["offset_mapping"]]
            start += len(chunk)
        return found

    def _stretches(self, text: str) -> list[str]:
        return list(self.prompt.stretches(text, self.tokenizer.eos_token or ""))

    def _text_tokens(self, text: str, **options: Any) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False, **options) if text else []
