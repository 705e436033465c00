"""What the engine needs of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mgtool.inference.attention import Prefix
from mgtool.inference.penalties import Penalties
from mgtool.inference.scheduler import Group


class OnDevice:
    """What a `ServedModel` takes from the model of transformers that it is made of, as `model`."""

    model: Any
    penalties: Penalties | None = None

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All weights by name."""
        yield from self.model.named_parameters()

    def get_input_embeddings(self) -> Any:
        """The language model's."""
        return self.model.get_input_embeddings()


class Beginning(NamedTuple):
    """What prompts of a group begin with.

    Attributes:
        group: of which the pictures are.
        ids: T token ids with placeholders.
        visuals: at those placeholders, (tokens, H) each.
    """

    group: Group
    ids: Sequence[int]
    visuals: Sequence[Tensor]


class ServedModel(Protocol):
    """A language model that is shown pictures, on its device, in evaluation mode.

    Attributes:
        model: of transformers, that it is made of.
        language_model: takes token ids or embeddings, positions and a cache, and gives logits.
        vision_tokens: places that a picture has beside those in a prompt's ids.
        picture_bytes: that a picture takes at most while it is seen; 0 where pictures are seen one by one.
        penalties: that its own configuration asks for; None for none.
    """

    model: Any
    vision_tokens: int
    picture_bytes: int
    penalties: Penalties | None

    @property
    def language_model(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def text_config(self) -> Any:
        """The language model's configuration."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def get_input_embeddings(self) -> Any: ...

    def shares_prefixes(self) -> bool:
        """Whether prompts that begin alike may share what was computed of it."""
        ...

    def see(self, group: Group) -> list[Tensor]:
        """What stands at each placeholder of a group's prompts, (tokens, H) each."""
        ...

    def splice(self, prompts: Sequence[Sequence[int]], visuals: Sequence[Tensor]) -> Any:
        """Prompts, and what stands at their placeholders in order, as `mgtool.model.splice.Spliced`."""
        ...

    def see_all(self, groups: Sequence[Group]) -> list[list[Tensor]]:
        """As `see`, of several groups that show pictures."""
        ...

    def begin(self, beginnings: Sequence[Beginning]) -> tuple[list[Prefix], Tensor]:
        """Keys and values of what prompts of n groups begin with, and the logits behind them.

        Returns:
            n prefixes, and (n, vocabulary) float32.
        """
        ...
