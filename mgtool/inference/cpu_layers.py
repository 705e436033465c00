"""Linear layers on a CPU by oneDNN, while an engine computes.

torch multiplies float32 matrices by MKL, which lays the weights out anew in every product, and passes over what comes
out once more for GELU. Measured on an AVX-512 processor: decoding 8 rows with a language model of 107 million weights
took 66 ms a step, and 38 ms with weights that are laid out once; the perceptrons of ConvNeXt-L took 14 s for two
pictures, and 12 s with GELU inside the product. torch's own compiler calls the same functions. In bfloat16, torch uses
oneDNN by itself.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import psutil
import torch
from timm.layers import Mlp
from timm.layers.activations import GELU
from torch import Tensor, nn

from mgtool.inference.forwards import Forward, replaced

PACKED_SHARE = 0.25
"""Of the free memory, for weights that are laid out a second time; a larger model goes without."""
_ROWS = 64
"""Of a product, for which the layout is chosen; it serves others as well."""


class CpuLayers:
    """Layers of a model, and what computes the same faster without gradients.

    Args:
        model: in evaluation mode; its weights do not change any more.
        language_model: the part of it that decodes, whose weights are laid out a second time.
    """

    def __init__(self, model: Any, language_model: Any) -> None:
        self._forwards: list[tuple[dict[str, Any], Forward]] = []
        if not _is_served():
            return
        found = [layer for _, layer in model.named_modules() if isinstance(layer, Mlp) and _is_plain(layer)]
        self._forwards += [(vars(layer), _perceptron(layer)) for layer in found]
        head = model.get_output_embeddings()
        layers = {id(one): one for one in (*(one for _, one in language_model.named_modules()), head)}
        linear = [layer for layer in layers.values() if _is_linear(layer)]
        if _has_room(layer.weight for layer in linear):
            self._forwards += [(vars(layer), _packed(layer)) for layer in linear]

    def __len__(self) -> int:
        return len(self._forwards)

    def used(self) -> AbstractContextManager[None]:
        """Until the end of the block the layers compute in this way; a block within one changes nothing."""
        return replaced(self._forwards)


def _is_served() -> bool:
    """Whether this build of torch has what is called, on a processor for which it was measured."""
    names = ("_linear_pointwise", "_reorder_linear_weight")
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    has = is_built and all(hasattr(torch.ops.mkldnn, name) for name in names)
    return has and platform.machine().lower() in ("x86_64", "amd64")


def _is_linear(layer: Any) -> bool:
    """Whether a layer multiplies by float32 weights on the CPU, and nobody has changed how."""
    if type(layer) is not nn.Linear or "forward" in vars(layer) or type(layer.weight) is not nn.Parameter:
        return False
    weight = layer.weight
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and type(weight.data) is Tensor


def _is_plain(layer: Mlp) -> bool:
    """Whether a perceptron is two products and the exact GELU between them."""
    gelu = isinstance(layer.act, GELU) or (isinstance(layer.act, nn.GELU) and layer.act.approximate == "none")
    is_ours = gelu and isinstance(layer.norm, nn.Identity) and "forward" not in vars(layer)
    return is_ours and _is_linear(layer.fc1) and _is_linear(layer.fc2)


def _has_room(weights: Iterable[Tensor]) -> bool:
    return sum(weight.nbytes for weight in weights) <= PACKED_SHARE * psutil.virtual_memory().available


def _perceptron(layer: Mlp) -> Forward:
    def forward(inputs: Tensor) -> Tensor:
        hidden = _linear(inputs, layer.fc1.weight, layer.fc1.bias, "gelu", "none")
        return _linear(hidden, layer.fc2.weight, layer.fc2.bias)

    return forward


@torch.inference_mode()
def _packed(layer: nn.Linear) -> Forward:
    weight, bias = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _ROWS), layer.bias
    return lambda inputs: _linear(inputs, weight, bias)


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None, then: str = "none", kind: str = "") -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, then, [], kind)
    return product
