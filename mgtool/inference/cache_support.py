"""How a language model that is decoded row by row keeps what it has computed, and where that stops to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mgtool.inference.memory import is_out_of_memory

PROBED = 8
"""Tokens with which it is found out whether a model computes as it should."""
_NOISE, _HALF_NOISE = 1e-3, 0.1
"""Of logits that are the same number computed in another order, against their spread: in float32, in half precision."""
_NAMES = "past_key_values", "cache_params"
"""What models call their cache; those without attention have the second name, and take no notice of the first."""
_known: WeakKeyDictionary[nn.Module, CacheSupport] = WeakKeyDictionary()


@dataclass(frozen=True)
class CacheSupport:
    """What holds of a language model's cache.

    Attributes:
        name: of the argument that takes it; empty where every step computes all tokens anew.
        rope: of rotary embeddings that change with the length; None for those that do not.
    """

    name: str
    rope: LengthDependentRope | None

    @classmethod
    def of(cls, language_model: Any) -> CacheSupport:
        """Found out once, by comparing cached steps of a few tokens with what the model gives for the whole of them."""
        if language_model not in _known:
            has_cache = language_model._supports_default_dynamic_cache()
            names = (name for name in _NAMES if has_cache and _is_kept(language_model, name))
            _known[language_model] = cls(next(names, ""), LengthDependentRope.of(language_model))
        return _known[language_model]

    def holds(self, length: int) -> bool:
        """Whether what was computed of a shorter row may be used for one of so many tokens."""
        is_beyond = self.rope is not None and length > self.rope.limit
        return bool(self.name) and not (is_beyond and self.rope is not None and self.rope.always_changes)

    def begins_anew(self, length: int) -> bool:
        """Whether a row of so many tokens is the first whose keys are other ones than before."""
        return self.rope is not None and length == self.rope.limit + 1


@dataclass(frozen=True)
class LengthDependentRope:
    """Rotary embeddings whose frequencies depend on the longest row of a batch.

    Attributes:
        modules: that hold them.
        limit: tokens up to which they are what they were trained as.
        always_changes: whether they are other ones for every length beyond, and not the same for all.
    """

    modules: tuple[Any, ...]
    limit: int
    always_changes: bool

    @classmethod
    def of(cls, language_model: nn.Module) -> LengthDependentRope | None:
        """A model's; None where its frequencies are fixed."""
        found = [module for module in language_model.modules() if any(map(depends_on_length, _rope_types(module)))]
        if not found:
            return None
        types = {kind for module in found for kind in _rope_types(module)}
        limits = [limit for module in found for limit in _limits(module)]
        return cls(tuple(found), min(limits), any("dynamic" in kind for kind in types))

    def reset(self) -> None:
        """Forget the longest row so far."""
        for module in self.modules if self.always_changes else ():
            for name, original in list(module.named_buffers(recurse=False)):
                if name.endswith("original_inv_freq"):
                    module.register_buffer(name.replace("original_", ""), original.clone(), persistent=False)
            for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
                setattr(module, name, module.original_max_seq_len)


def _rope_types(module: Any) -> list[str]:
    kinds = getattr(module, "rope_type", None)
    return [str(kind) for kind in (kinds.values() if isinstance(kinds, Mapping) else [kinds])]


def depends_on_length(kind: str) -> bool:
    """Whether rotary embeddings of this kind are other ones where a row is longer."""
    return "dynamic" in kind or kind == "longrope"


def _limits(module: Any) -> Iterator[int]:
    parameters = getattr(module.config, "rope_parameters", None) or {}
    nested = [one for one in parameters.values() if isinstance(one, Mapping)]
    for one in (parameters, *nested):
        if "original_max_position_embeddings" in one:
            yield int(one["original_max_position_embeddings"])
    yield int(module.original_max_seq_len)


def is_same(language_model: Any, expected: Tensor, found: Tensor) -> bool:
    """Whether logits are those expected but for what another order of computing does."""
    noise = _NOISE if language_model.dtype == torch.float32 else _HALF_NOISE
    return bool((found - expected).square().mean().sqrt() <= noise * expected.std())


def probe(language_model: Any, attempt: Callable[[Tensor], Tensor]) -> bool:
    """Whether an attempt gives, for a few token ids, the logits that the model gives for the whole of them."""
    last = language_model.config.vocab_size - 1
    ids = torch.linspace(0, last, PROBED, device=language_model.device).long()
    try:
        expected = language_model(input_ids=ids[None], use_cache=False).logits[0, -1].float()
        found = attempt(ids)
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        return is_out_of_memory(error)  # which is said where a prompt meets it
    return not expected.isfinite().all() or is_same(language_model, expected, found)


@torch.inference_mode()
def _is_kept(language_model: Any, name: str) -> bool:
    def attempt(ids: Tensor) -> Tensor:
        embeds = language_model.get_input_embeddings()(ids)[None]
        cache, logits = DynamicCache(config=language_model.config), embeds
        for part in (embeds[:, :-2], embeds[:, -2:-1], embeds[:, -1:]):
            logits = language_model(inputs_embeds=part, use_cache=True, **{name: cache}).logits
        return logits[0, -1].float()

    return probe(language_model, attempt)
