"""The last layer of a language model, where only some tokens of a prompt are of use.

A prompt's last token alone says what comes next; of all others the last layer has to give keys and values, which do not
depend on its own attention and perceptron. Leaving these out spares 10 of 12 products of that layer: 7 % of a prefill
with 12 layers, 2.6 % with 32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from mgtool.inference.forwards import Forward, replaced

Columns = slice | Tensor
"""Places of tokens in a row: a slice, or (n,) int64."""


def last_layer_of(language_model: Any, columns: Columns) -> AbstractContextManager[None]:
    """Until the end of the block the last layer mixes and transforms the tokens at `columns` alone.

    What it gives for the others is of no meaning; the keys and values of all are right. Nothing changes for a language
    model that is not built of projections and perceptrons by the usual names.
    """
    parts = _token_by_token(language_model)
    return replaced([(vars(part), _narrowed(part.forward, columns)) for part in parts])


def _narrowed(forward: Forward, columns: Columns) -> Forward:
    def narrowed(hidden: Tensor) -> Tensor:
        found = forward(hidden[:, columns])
        whole = found.new_zeros(*hidden.shape[:2], found.shape[-1])
        whole[:, columns] = found
        return whole

    return narrowed


def _token_by_token(language_model: Any) -> list[Any]:
    """Modules of the last layer that compute each token by itself, (R, T, H) -> (R, T, H'), but keys and values."""
    layers = getattr(getattr(language_model, "model", None), "layers", None)
    if not layers:
        return []
    attention, perceptron = getattr(layers[-1], "self_attn", None), getattr(layers[-1], "mlp", None)
    found = [getattr(attention, name, None) for name in ("q_proj", "o_proj")]
    found = [one for one in found if isinstance(one, nn.Linear)]
    return [*found, perceptron] if _is_dense(perceptron) else found


def _is_dense(perceptron: Any) -> bool:
    """Whether a perceptron is made of products and what has no weights, so that no token depends on others."""
    if not isinstance(perceptron, nn.Module):
        return False
    parts = [*perceptron.children()]
    return bool(parts) and all(isinstance(part, nn.Linear) or not [*part.parameters()] for part in parts)
