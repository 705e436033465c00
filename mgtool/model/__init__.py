"""MG-LLaVA for transformers: configuration, model, processor; importing this registers the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from mgtool.model.config import IMAGE_TOKEN_ID, VIDEO_TOKEN_ID, ConvNextTowerConfig, MGLlavaConfig
from mgtool.model.modeling import ImageFeatures, MGLlavaForConditionalGeneration
from mgtool.model.processor import MGLlavaProcessor, PlacedPicture
from mgtool.model.splice import Spliced

AutoConfig.register(ConvNextTowerConfig.model_type, ConvNextTowerConfig, exist_ok=True)
AutoConfig.register(MGLlavaConfig.model_type, MGLlavaConfig, exist_ok=True)
AutoModel.register(MGLlavaConfig, MGLlavaForConditionalGeneration, exist_ok=True)
AutoModelForImageTextToText.register(MGLlavaConfig, MGLlavaForConditionalGeneration, exist_ok=True)
AutoProcessor.register(MGLlavaConfig, MGLlavaProcessor, exist_ok=True)

__all__ = [
    "IMAGE_TOKEN_ID",
    "VIDEO_TOKEN_ID",
    "ConvNextTowerConfig",
    "ImageFeatures",
    "MGLlavaConfig",
    "MGLlavaForConditionalGeneration",
    "MGLlavaProcessor",
    "PlacedPicture",
    "Spliced",
]
