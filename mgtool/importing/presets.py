"""The published models by name: what of the hub each is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mgtool.errors import UsageError, one_of

CHECKPOINTS = "PhoenixZ/MG-LLaVA"
"""Where the authors' README says that the weights are."""
CLIP = "openai/clip-vit-large-patch14-336"
CONVNEXT = "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup"


@dataclass(frozen=True)
class Preset:
    """One published size.

    Attributes:
        llm: the language model on the hub.
        template: what its training configuration asks with.
        words: what the name of its weights has in it, whatever else it has; letters and digits alone count.
    """

    llm: str
    template: str
    words: tuple[str, ...]
    checkpoint: str = CHECKPOINTS
    clip: str = CLIP
    convnext: str = CONVNEXT


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "mg-llava-phi3-3.8b": Preset("microsoft/Phi-3-mini-4k-instruct", "phi3_chat", ("phi3",)),
        "mg-llava-vicuna-7b": Preset("lmsys/vicuna-7b-v1.5", "vicuna", ("vicuna", "7b")),
        "mg-llava-vicuna-13b": Preset("lmsys/vicuna-13b-v1.5", "vicuna", ("vicuna", "13b")),
        "mg-llava-llama3-8b": Preset("meta-llama/Meta-Llama-3-8B-Instruct", "llama3_chat", ("llama3",)),
        "mg-llava-yi1.5-34b": Preset("01-ai/Yi-1.5-34B-Chat", "chatml", ("yi", "34b")),
    }
)


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in PRESETS:
        raise UsageError("preset", f"{name}: give one of {one_of(name, PRESETS)}")
    return PRESETS[name]
