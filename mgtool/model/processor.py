"""Pictures, boxes and text -> what the model takes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from mgtool.boxes.placement import BoxRules, Framed, Framing
from mgtool.errors import ItemError
from mgtool.media.placeholders import IMAGE, PLACEHOLDER, VIDEO, Exchange
from mgtool.model.config import IMAGE_TOKEN_ID, VIDEO_TOKEN_ID
from mgtool.model.inputs import Batch, as_picture
from mgtool.model.splice import IGNORED
from mgtool.model.templates import Piece, Template, find_template
from mgtool.records import Detections

PLACEHOLDERS = {IMAGE: IMAGE_TOKEN_ID, VIDEO: VIDEO_TOKEN_ID}
MAX_NEW_TOKENS = 100
"""The published evaluation's."""

_logger = logging.getLogger(__name__)
_BESIDE_PLACEHOLDERS = re.compile(f"({PLACEHOLDER.pattern})")
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class PlacedPicture(NamedTuple):
    """A picture and its boxes in the model frame.

    Attributes:
        pixels: (3, S, S) float32, RGB, normalised.
        boxes: (n, 4) float32 xyxy, n >= 1.
        labels: names of the boxes; empty where one box (0, 0, 0, 0) stands in for none.
        kept: places of the boxes among those of the detector.
    """

    pixels: Tensor
    boxes: Tensor
    labels: tuple[str, ...]
    kept: tuple[int, ...] = ()


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
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str | dict[str, Any] = "vicuna",
        image_size: int = 768,
        image_mean: Sequence[float] = _CLIP_MEAN,
        image_std: Sequence[float] = _CLIP_STD,
        box_rules: dict[str, Any] | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.template = template
        self.prompt: Template = find_template(template)
        self.image_size = image_size
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self._levels = _normalized_levels(self.image_mean, self.image_std)
        self.box_rules = dict(box_rules or {})
        self.rules = BoxRules(**self.box_rules)
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
        ids: list[int] = []
        labels: list[int] = []
        for piece in self._pieces(turns, system):
            tokens = self._special(piece.special) if piece.special else self._piece_tokens(piece)
            ids += tokens
            labels += tokens if piece.learned else [IGNORED] * len(tokens)
        return EncodedText(ids, labels)

    def tokenize(self, turns: Sequence[Exchange], system: str = "") -> list[int]:
        """Token ids of a conversation with -200 and -201 in the place of ``<image>`` and ``<video>``."""
        return self.encode(turns, system).ids

    def tokenize_text(self, text: str) -> list[int]:
        """Token ids of a prompt that is rendered already; BOS is put in front where the template wants one."""
        if not self.prompt.bos:
            return self._tokens(text)
        return self._special("bos") + self._tokens(text.removeprefix(self.tokenizer.bos_token or ""))

    def render(self, turns: Sequence[Exchange]) -> str:
        """The prompt as text, placeholders and special tokens included."""
        names = {"bos": self.tokenizer.bos_token or "", "eos": self.tokenizer.eos_token or "", "": ""}
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
        """A batch for the model, padded on the left.

        Args:
            ids: B samples' token ids with placeholders.
            pictures: P pictures and frames, sample after sample.
            frame_counts: V numbers, pictures of each placeholder; None where each has one.
            labels: B samples' labels, for training.

        Returns:
            input_ids, attention_mask and labels (B, T) int64; pixel_values (P, 3, S, S) float32; boxes (M, 4)
            float32; box_counts (P,) and frame_counts (V,) int64. Without pictures, the text alone.
        """
        tokens, mask = _pad_left(ids, self.pad_token_id)
        batch: dict[str, Tensor] = {"input_ids": tokens, "attention_mask": mask}
        if pictures:
            counts = [1] * len(pictures) if frame_counts is None else list(frame_counts)
            batch |= {
                "pixel_values": torch.stack([picture.pixels for picture in pictures]),
                "boxes": torch.cat([picture.boxes for picture in pictures]),
                "box_counts": torch.tensor([len(picture.boxes) for picture in pictures]),
                "frame_counts": torch.tensor(counts),
            }
        if labels is not None:
            batch["labels"] = _pad_left(labels, IGNORED)[0]
        return Batch(batch)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        detections: Any = None,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """A batch from rendered prompts, as other processors of transformers take it.

        Args:
            images: pictures (PIL, paths, URLs, arrays or tensors) in the order of the ``<image>`` placeholders; nested
                lists are flattened.
            text: one prompt or several, as `apply_chat_template` or `render` give them.
            videos: a list of frames for each ``<video>``.
            detections: nested as `images` and `videos` are, images first; None for no boxes.
            return_tensors: ``"pt"`` or ``"np"``.
            kwargs: `padding`, `padding_side`, `max_length` and `truncation` as of tokenizers; a prompt is never cut.
                Others are warned of.

        Raises:
            ItemError: ``bad_record`` where placeholders and pictures do not agree.
            ValueError: boxes under another name, or a prompt longer than it may be.
        """
        if text is None:
            raise ItemError("empty_prompt", "the processor needs text")
        _refuse_arguments(kwargs)
        ids = [self.tokenize_text(prompt) for prompt in ([text] if isinstance(text, str) else text)]
        shots = [[still] for still in _flatten(images)] + [list(film) for film in videos or []]
        seen = iter(_flatten(detections) or [None] * sum(map(len, shots)))
        placed = [[self.place(as_picture(picture), next(seen)) for picture in shot] for shot in shots]
        media = _in_order(ids, placed[: len(shots) - len(videos or [])], placed[len(shots) - len(videos or []) :])
        batch = self.collate(ids, [picture for shot in media for picture in shot], [len(shot) for shot in media])
        _pad(batch, self.pad_token_id, kwargs)
        return batch if return_tensors in ("pt", None) else _converted(batch, return_tensors)

    def decode(self, token_ids: Any, *, stops: Sequence[str] = (), **kwargs: Any) -> str:
        """The answer's text: no special tokens, nothing from the template's end of an answer or a stop on, stripped."""
        kwargs.setdefault("skip_special_tokens", True)
        text = self.tokenizer.decode(_without_placeholders(token_ids), **kwargs)
        for stop in (*self.prompt.stop_strings, *stops):
            text = text.split(stop)[0]
        return text.strip()

    def batch_decode(self, sequences: Any, **kwargs: Any) -> list[str]:
        """The texts of several rows of token ids; placeholders leave none."""
        return [self.tokenizer.decode(_without_placeholders(row), **kwargs) for row in sequences]

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """The texts of a pipeline's output."""
        return self.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)

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
        for text, is_special in _told_apart(piece, special):
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

    def _text_tokens(self, text: str, **options: Any) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False, **options) if text else []


def _told_apart(piece: Piece, special: re.Pattern[str]) -> list[tuple[str, bool]]:
    """A piece's text in stretches, and whether each is a special token of the template; what is foreign never is."""
    found: list[tuple[str, bool]] = [("", False)]

    def add(text: str, *, is_special: bool = False) -> None:
        if is_special or found[-1][1]:
            found.append((text, is_special))
        else:
            found[-1] = (found[-1][0] + text, False)

    def add_own(text: str) -> None:
        end = 0
        for match in special.finditer(text):
            add(text[end : match.start()])
            add(match[0], is_special=True)
            end = match.end()
        add(text[end:])

    rest = piece.text
    for text in piece.foreign:
        before, _, rest = rest.partition(text) if text else ("", "", rest)
        add_own(before)
        add(text)
    add_own(rest)
    return [(text, is_special) for text, is_special in found if text]


def _normalized_levels(mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """(3, 256) float32: what each 8-bit level of each channel is after normalising; a picture is looked up in it."""
    levels = (np.arange(256) / 255).astype(np.float32)
    return (levels - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]


def _pad_left(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    padded = torch.tensor([[value] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return padded, mask


_BOX_NAMES = re.compile("det|box", re.IGNORECASE)
_PADDING = ("padding", "padding_side", "max_length", "truncation")
_OF_TEMPLATES = ("add_special_tokens", "return_attention_mask", "return_dict", "return_token_type_ids")
"""What `apply_chat_template` and pipelines hand on, and what is so or has no meaning here."""


def _refuse_arguments(given: dict[str, Any]) -> None:
    """Boxes that would be left out raise; what nothing here obeys is warned of."""
    for name, value in given.items():
        if value is None or name in (*_PADDING, *_OF_TEMPLATES):
            continue
        if _BOX_NAMES.search(name):
            raise ValueError(f"{name} is no argument of this processor: boxes are given as `detections`")
        _logger.warning("%s is not a valid argument for this processor and will be ignored.", name)


def _pad(batch: BatchFeature, pad: int, given: dict[str, Any]) -> None:
    """Pad a batch as it was asked; it is padded on the left to its longest row already."""
    longest, limit = batch["input_ids"].shape[1], given.get("max_length")
    if given.get("truncation") and limit is not None and longest > limit:
        raise ValueError(f"truncation: a prompt has {longest} tokens, and one that is cut may lose its pictures")
    width = limit - longest if given.get("padding") == "max_length" and limit is not None else 0
    for name, value in (("input_ids", pad), ("attention_mask", 0)):
        batch[name] = torch.nn.functional.pad(batch[name], (max(width, 0), 0), value=value)
    if given.get("padding_side") == "right":
        shifts = (batch["attention_mask"] == 0).sum(1, keepdim=True)
        columns = (torch.arange(batch["input_ids"].shape[1]) + shifts) % batch["input_ids"].shape[1]
        for name in ("input_ids", "attention_mask"):
            batch[name] = batch[name].gather(1, columns)


def _converted(batch: BatchFeature, kind: str) -> BatchFeature:
    if kind != "np":
        raise ValueError(f"return_tensors {kind}: only pt and np are understood")
    return Batch({name: tensor.numpy() for name, tensor in batch.items()})


def _without_placeholders(ids: Any) -> list[int]:
    row = ids.tolist() if hasattr(ids, "tolist") else ids
    return [token for token in ([row] if isinstance(row, int) else row) if token >= 0]


def _flatten(nested: Any) -> list[Any]:
    if nested is None:
        return []
    if isinstance(nested, (list, tuple)) and not isinstance(nested, Detections):
        return [leaf for entry in nested for leaf in (_flatten(entry) if isinstance(entry, (list, tuple)) else [entry])]
    return [nested]


def _in_order(
    ids: Sequence[Sequence[int]], stills: Sequence[list[PlacedPicture]], films: Sequence[list[PlacedPicture]]
) -> list[list[PlacedPicture]]:
    """The pictures of each placeholder, in the order of the batch."""
    wanted = [token for row in ids for token in row if token in (IMAGE_TOKEN_ID, VIDEO_TOKEN_ID)]
    counts = wanted.count(IMAGE_TOKEN_ID), wanted.count(VIDEO_TOKEN_ID)
    if counts != (len(stills), len(films)):
        raise ItemError(
            "bad_record",
            f"the text shows {counts[0]} pictures and {counts[1]} videos, there are {len(stills)} and {len(films)}",
        )
    supply = {IMAGE_TOKEN_ID: iter(stills), VIDEO_TOKEN_ID: iter(films)}
    return [next(supply[token]) for token in wanted]
