"""What share of its card's peak a run reached: operations from the model's configuration, bytes from its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mgtool.inference.loading import load_config
from mgtool.inference.memory import token_bytes
from mgtool.inference.plan import InferencePlan
from mgtool.inference.stage_times import StageTimes
from mgtool.inputs.model_folders import is_foreign


@dataclass(frozen=True)
class Peak:
    """Of a card, by its maker's data sheet, without sparsity.

    Attributes:
        half_tflops: 10^12 operations a second in bfloat16, or float16 where that is the narrow format.
        single_tflops: the same in float32, without TF32.
        terabytes: a second from and to its memory.
    """

    half_tflops: float
    single_tflops: float
    terabytes: float


CARDS = {
    "B200": Peak(2250, 80, 8.0),
    "H200": Peak(989, 67, 4.8),
    "H100 PCIe": Peak(756, 51, 2.0),
    "H100 NVL": Peak(835, 60, 3.9),
    "H100": Peak(989, 67, 3.35),
    "A100-SXM4-80GB": Peak(312, 19.5, 2.04),
    "A100 80GB": Peak(312, 19.5, 1.94),
    "A100": Peak(312, 19.5, 1.56),
    "L40S": Peak(362, 91.6, 0.864),
    "L40": Peak(181, 90.5, 0.864),
    "L4": Peak(121, 30.3, 0.3),
    "A10G": Peak(70, 31.5, 0.6),
    "A10": Peak(125, 31.2, 0.6),
    "RTX 4090": Peak(165, 82.6, 1.01),
    "RTX 3090": Peak(71, 35.6, 0.936),
    "V100": Peak(125, 15.7, 0.9),
    "T4": Peak(65, 8.1, 0.32),
}
"""By a part of the name that torch gives; the first that fits."""


def peak_of(card: str) -> Peak | None:
    """A card's peak; None for one that is not in the table.

    >>> peak_of("NVIDIA H200").terabytes, peak_of("Some CPU")
    (4.8, None)
    """
    return next((peak for name, peak in CARDS.items() if name in card), None)


@dataclass(frozen=True)
class Work:
    """What a model costs.

    Attributes:
        picture_flop: operations of both towers, fusion and projector for a picture.
        token_flop: of the language model for a token, without attention to others.
        weight_bytes: that a step of decoding reads.
        token_bytes: of a token's keys and values.
    """

    picture_flop: int
    token_flop: int
    weight_bytes: int
    token_bytes: int

    @classmethod
    def of(cls, config: Any, dtype: torch.dtype) -> Work:
        """Of a configuration of this project's model, counted on a model without memory."""
        from mgtool.model import MGLlavaForConditionalGeneration

        with torch.device("meta"), torch.no_grad():
            model: Any = MGLlavaForConditionalGeneration(config).float().eval()
            picture = torch.zeros(1, 3, config.image_size, config.image_size)
            with FlopCounterMode(display=False) as counter:
                model.encode_images(picture)
        embedding = model.get_input_embeddings().weight
        used = sum(one.numel() for one in model.language_model.parameters()) - embedding.numel()
        head = model.get_output_embeddings()
        used += embedding.numel() if head is not None and head.weight is embedding else 0
        return cls(
            int(counter.get_total_flops()), 2 * used, used * dtype.itemsize, token_bytes(config.text_config, dtype)
        )


def shares_of_peak(times: StageTimes, work: Work, peak: Peak, dtype: torch.dtype) -> dict[str, float]:
    """By stage, the share of the card's operations (towers, prefill) or of its memory's bytes a second (decode)."""
    flop = (peak.single_tflops if dtype == torch.float32 else peak.half_tflops) * 1e12
    done = {
        "towers": times.pictures * work.picture_flop / flop,
        "prefill": times.prefilled * work.token_flop / flop,
        "decode": (times.steps * work.weight_bytes + times.cached * work.token_bytes) / (peak.terabytes * 1e12),
    }
    return {
        stage: round(least / times.seconds[stage], 4)
        for stage, least in done.items()
        if least and times.seconds.get(stage, 0.0) > 0
    }


def told(plan: InferencePlan, times: StageTimes) -> dict[str, Any]:
    """A run's times by stage, and the share of the card's peak where card and model are known."""
    found = times.summary()
    on_gpu = plan.device.startswith("cuda") and torch.cuda.is_available()
    peak = peak_of(torch.cuda.get_device_name(plan.devices[0])) if on_gpu and found else None
    if peak is None or is_foreign(plan.model) or plan.options.quantize:
        return found
    dtype = getattr(torch, plan.dtype)
    return found | {"share_of_peak": shares_of_peak(times, Work.of(load_config(plan), dtype), peak, dtype)}
