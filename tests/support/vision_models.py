"""Tiny image-text-to-text models of many families, of random weights, with their own processors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}@{{ part['type'] }}@{% endif %}"
    "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIDE, PATCH = 28, 14
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "initializer_range": 0.3,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
    "initializer_range": 0.3,
}
CLIP, SIGLIP = VISION | {"model_type": "clip_vision_model"}, VISION | {"model_type": "siglip_vision_model"}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN = {"image_token_id": 4, "video_token_id": 5, "vision_start_token_id": 6, "vision_end_token_id": 7}
QWEN_TOKENS = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
QWEN_SEES = "<|vision_start|><|{}_pad|><|vision_end|>"
QWEN_SIZE = {"size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}}

Family = Callable[[], tuple[Any, Any]]


def tokenizer(*special: str, **named: str) -> PreTrainedTokenizerFast:
    """Every byte is a token; four ends and the special tokens come first, so that the first of these is number 4."""
    first = ["<s>", "</s>", "<pad>", "<unk>", *special, "<|user|>", "<|assistant|>", "<|system|>"]
    words = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    ends = dict(zip(("bos_token", "eos_token", "pad_token", "unk_token"), first[:4], strict=True))
    tokens = PreTrainedTokenizerFast(tokenizer_object=made, **ends, extra_special_tokens=named)
    tokens.add_special_tokens({"additional_special_tokens": first[4:]})
    return tokens


def _model(config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
            elif not parameter.any():  # gates that training would open
                parameter.fill_(0.5)
    return model


def _text(tokens: Any, kind: str = "llama", **more: Any) -> dict[str, Any]:
    return TEXT | {"model_type": kind, "vocab_size": len(tokens)} | more


def _chat(image: str, video: str = "<video>") -> str:
    return CHAT.replace("@{{ part['type'] }}@", f"{{{{ '{image}' if part['type'] == 'image' else '{video}' }}}}")


def _pixels(name: str, **more: Any) -> Any:
    return getattr(transformers, name)(**({"size": {"height": SIDE, "width": SIDE}} | more))


def llava() -> tuple[Any, Any]:
    tokens = tokenizer("<image>")
    config = AutoConfig.for_model("llava", text_config=_text(tokens), vision_config=CLIP, image_token_index=4)
    processor = transformers.LlavaProcessor(
        _pixels("CLIPImageProcessor", size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        tokens,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>\\n"),
    )
    return _model(config), processor


def llava_next() -> tuple[Any, Any]:
    tokens = tokenizer("<image>")
    grid = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = AutoConfig.for_model(
        "llava_next",
        text_config=_text(tokens, "mistral", sliding_window=None),
        vision_config=CLIP,
        image_token_index=4,
        image_grid_pinpoints=grid,
    )
    processor = transformers.LlavaNextProcessor(
        _pixels(
            "LlavaNextImageProcessor",
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_grid_pinpoints=grid,
        ),
        tokens,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>\\n"),
    )
    return _model(config), processor


def llava_onevision() -> tuple[Any, Any]:
    tokens = tokenizer("<image>", "<video>")
    grid = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = AutoConfig.for_model(
        "llava_onevision",
        text_config=_text(tokens, "qwen2"),
        vision_config=SIGLIP,
        image_token_index=4,
        video_token_index=5,
        image_grid_pinpoints=grid,
    )
    processor = transformers.LlavaOnevisionProcessor(
        _pixels("LlavaOnevisionImageProcessor", image_grid_pinpoints=grid),
        tokens,
        _pixels("LlavaOnevisionVideoProcessor"),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=_chat("<image>\\n", "<video>\\n"),
    )
    return _model(config), processor


def _qwen(kind: str, vision: dict[str, Any], text: dict[str, Any], patch: int = PATCH) -> tuple[Any, Any]:
    tokens = tokenizer(*QWEN_TOKENS)
    config = AutoConfig.for_model(kind, text_config=_text(tokens, f"{kind}_text", **text), vision_config=vision, **QWEN)
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    films = "Qwen3VLVideoProcessor" if kind == "qwen3_vl" else "Qwen2VLVideoProcessor"
    processor = getattr(transformers, f"{name}Processor")(
        transformers.Qwen2VLImageProcessor(patch_size=patch, **QWEN_SIZE),
        tokens,
        getattr(transformers, films)(patch_size=patch, **({} if kind == "qwen3_vl" else QWEN_SIZE)),
        chat_template=_chat(QWEN_SEES.format("image"), QWEN_SEES.format("video")),
    )
    return _model(config), processor


def qwen2_vl() -> tuple[Any, Any]:
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": PATCH}
    return _qwen("qwen2_vl", vision, {"rope_parameters": MROPE})


def qwen2_5_vl() -> tuple[Any, Any]:
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"fullatt_block_indexes": [1], "window_size": 56, "patch_size": PATCH}
    return _qwen("qwen2_5_vl", vision, {"rope_parameters": MROPE})


def qwen3_vl() -> tuple[Any, Any]:
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"deepstack_visual_indexes": [0, 1], "patch_size": 16, "num_position_embeddings": 16}
    return _qwen("qwen3_vl", vision, {"rope_parameters": MROPE}, patch=16)


def internvl() -> tuple[Any, Any]:
    tokens = tokenizer(
        "<IMG_CONTEXT>",
        "<video>",
        "<img>",
        "</img>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    side = [SIDE, SIDE]
    vision = VISION | {"image_size": side, "patch_size": [PATCH, PATCH], "model_type": "internvl_vision"}
    config = AutoConfig.for_model(
        "internvl", text_config=_text(tokens, "qwen2"), vision_config=vision, image_token_id=4, image_seq_length=1
    )
    processor = transformers.InternVLProcessor(
        _pixels("GotOcr2ImageProcessor", crop_to_patches=True, max_patches=4),
        tokens,
        _pixels("InternVLVideoProcessor"),
        image_seq_length=1,
        chat_template=_chat("<IMG_CONTEXT>\\n", "<video>\\n"),
    )
    return _model(config), processor


def idefics3() -> tuple[Any, Any]:
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokens = tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *rows)
    config = AutoConfig.for_model(
        "idefics3", text_config=_text(tokens), vision_config=VISION, image_token_id=4, scale_factor=2
    )
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessor(
            size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=True
        ),
        tokens,
        image_seq_len=1,
        chat_template=_chat("<image>"),
    )
    return _model(config), processor


def paligemma() -> tuple[Any, Any]:
    tokens = tokenizer("<image>")
    pixels = _pixels("SiglipImageProcessor")
    pixels.image_seq_length = (SIDE // PATCH) ** 2
    processor = transformers.PaliGemmaProcessor(pixels, tokens)  # adds tokens of its own
    config = AutoConfig.for_model(
        "paligemma",
        text_config=_text(tokens, "gemma"),
        vision_config=SIGLIP | {"projection_dim": 32},
        image_token_index=4,
        projection_dim=32,
        hidden_size=32,
    )
    return _model(config), processor


def gemma3() -> tuple[Any, Any]:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokens = tokenizer("<image_soft_token>", "<start_of_image>", "<end_of_image>", **names)
    config = AutoConfig.for_model(
        "gemma3",
        text_config=_text(tokens, "gemma3_text", sliding_window=12, num_hidden_layers=3, query_pre_attn_scalar=8),
        vision_config=SIGLIP,
        mm_tokens_per_image=4,
        image_token_index=4,
        boi_token_index=5,
        eoi_token_index=6,
    )
    processor = transformers.Gemma3Processor(
        _pixels("Gemma3ImageProcessor"), tokens, image_seq_length=4, chat_template=_chat("<start_of_image>")
    )
    return _model(config), processor


def mllama() -> tuple[Any, Any]:
    tokens = tokenizer("<|image|>", "<|python_tag|>")
    text = _text(
        tokens,
        "mllama_text_model",
        num_hidden_layers=3,
        cross_attention_layers=[1],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "intermediate_layers_indices": [0],
        "vision_output_dim": 32,
        "max_num_tiles": 2,
        "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
    }
    config = AutoConfig.for_model("mllama", text_config=text, vision_config=vision, image_token_index=4)
    processor = transformers.MllamaProcessor(
        _pixels("MllamaImageProcessor", max_image_tiles=2), tokens, chat_template=_chat("<|image|>")
    )
    return _model(config), processor


def aya_vision() -> tuple[Any, Any]:
    names = ["<|IMG_PATCH|>", "<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_LINE_BREAK|>"]
    tokens = tokenizer(*names, *(f"TILE_{number}" for number in range(1, 10)), "TILE_GLOBAL")
    config = AutoConfig.for_model(
        "aya_vision",
        text_config=_text(tokens, "cohere"),
        vision_config=SIGLIP,
        image_token_index=4,
        downsample_factor=1,
        vision_feature_layer=-1,
        adapter_layer_norm_eps=1e-6,
    )
    processor = transformers.AyaVisionProcessor(
        _pixels("GotOcr2ImageProcessor", crop_to_patches=True, max_patches=4),
        tokens,
        patch_size=PATCH,
        img_size=SIDE,
        chat_template=_chat("<image>"),
    )
    return _model(config), processor


SHARING: dict[str, Family] = {
    family.__name__: family
    for family in (
        llava,
        llava_next,
        llava_onevision,
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        internvl,
        idefics3,
        gemma3,
        aya_vision,
    )
}
OTHERS: dict[str, Family] = {"paligemma": paligemma, "mllama": mllama}
FAMILIES = SHARING | OTHERS
TAKE_VIDEOS = ("llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl")
