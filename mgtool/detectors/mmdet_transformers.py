"""MMDetection's BERT wrapper (Grounding DINO, GLIP) on transformers 5, which dropped two things it uses."""

from __future__ import annotations

from typing import Any


def install() -> None:
    """Bring back `batch_encode_plus`, and hand three-dimensional attention masks over as today's BERT takes them."""
    from mmdet.models.language_models.bert import BertEncoder
    from transformers import PreTrainedTokenizerBase

    if not hasattr(PreTrainedTokenizerBase, "batch_encode_plus"):
        PreTrainedTokenizerBase.batch_encode_plus = PreTrainedTokenizerBase.__call__
    if getattr(BertEncoder, "_takes_masks_of_pairs", False):
        return
    original = BertEncoder.__init__

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.model.register_forward_pre_hook(_with_heads, with_kwargs=True)

    BertEncoder.__init__ = begin
    BertEncoder._takes_masks_of_pairs = True


def _with_heads(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A (batch, tokens, tokens) mask gets the dimension of the heads."""
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.dim() == 3:
        kwargs["attention_mask"] = mask[:, None].bool()
    return args, kwargs
