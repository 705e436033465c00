"""Tiny image-text-to-text models of many families, of random weights, with their own processors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForMultimodalLM, PreTrainedTokenizerFast

CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}@{{ part['type'] }}@{% endif %}"
    "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT_CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Of a language model: what a message says is a text."""
PATCH = 14
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
    "image_size": 2 * PATCH,
    "patch_size": PATCH,
    "initializer_range": 0.3,
}
QWEN = {"image_token_id": 4, "video_token_id": 5, "vision_start_token_id": 6, "vision_end_token_id": 7}
QWEN_TOKENS = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
QWEN_SEES = "<|vision_start|><|{}_pad|><|vision_end|>"

Family = Callable[[], tuple[Any, Any]]


WORDS: list[str] = []
"""Texts that are a token each, beside the bytes."""


def resize(side: int, text: dict[str, Any], vision: dict[str, Any], words: Sequence[str] = ()) -> None:
    """Make the models of another geometry from here on, for measurements."""
    WORDS[:] = words
    TEXT.update(text)
    VISION.update(vision | {"image_size": side})


def _side() -> int:
    return int(VISION["image_size"])


def _tower(kind: str = "siglip") -> dict[str, Any]:
    return VISION | {"model_type": f"{kind}_vision_model"}


def _patches() -> int:
    return (_side() // PATCH) ** 2


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
    tokens.add_tokens(WORDS)
    return tokens


def _model(config: Any) -> Any:
    torch.manual_seed(0)
    known = type(config) in AutoModelForImageTextToText._model_mapping
    model = (AutoModelForImageTextToText if known else AutoModelForMultimodalLM).from_config(config).eval()
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
    return getattr(transformers, name)(**({"size": {"height": _side(), "width": _side()}} | more))


def llava() -> tuple[Any, Any]:
    tokens = tokenizer("<image>")
    config = AutoConfig.for_model("llava", text_config=_text(tokens), vision_config=_tower("clip"), image_token_index=4)
    processor = transformers.LlavaProcessor(
        _pixels("CLIPImageProcessor", size={"shortest_edge": _side()}, crop_size={"height": _side(), "width": _side()}),
        tokens,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_chat("<image>\\n"),
    )
    return _model(config), processor


def llava_next() -> tuple[Any, Any]:
    tokens = tokenizer("<image>")
    grid = [[_side(), 2 * _side()], [2 * _side(), _side()], [2 * _side(), 2 * _side()]]
    config = AutoConfig.for_model(
        "llava_next",
        text_config=_text(tokens, "mistral", sliding_window=None),
        vision_config=_tower("clip"),
        image_token_index=4,
        image_grid_pinpoints=grid,
    )
    processor = transformers.LlavaNextProcessor(
        _pixels(
            "LlavaNextImageProcessor",
            size={"shortest_edge": _side()},
            crop_size={"height": _side(), "width": _side()},
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
    grid = [[_side(), 2 * _side()], [2 * _side(), _side()], [2 * _side(), 2 * _side()]]
    config = AutoConfig.for_model(
        "llava_onevision",
        text_config=_text(tokens, "qwen2"),
        vision_config=_tower(),
        image_token_index=4,
        video_token_index=5,
        image_grid_pinpoints=grid,
    )
    processor = transformers.LlavaOnevisionProcessor(
        _pixels("LlavaOnevisionImageProcessor", image_grid_pinpoints=grid),
        tokens,
        _pixels("LlavaOnevisionVideoProcessor"),
        num_image_tokens=_patches(),
        vision_feature_select_strategy="full",
        chat_template=_chat("<image>\\n", "<video>\\n"),
    )
    return _model(config), processor


def _qwen(kind: str, vision: dict[str, Any], patch: int = PATCH) -> tuple[Any, Any]:
    tokens = tokenizer(*QWEN_TOKENS)
    half = TEXT["head_dim"] // 2
    parts = [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8]
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": parts}
    text = _text(tokens, f"{kind}_text", rope_parameters=rope)
    config = AutoConfig.for_model(kind, text_config=text, vision_config=vision, **QWEN)
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    films = "Qwen3VLVideoProcessor" if kind == "qwen3_vl" else "Qwen2VLVideoProcessor"
    size = {"size": {"shortest_edge": _side() ** 2, "longest_edge": 4 * _side() ** 2}}
    processor = getattr(transformers, f"{name}Processor")(
        transformers.Qwen2VLImageProcessor(patch_size=patch, **size),
        tokens,
        getattr(transformers, films)(patch_size=patch, **({} if kind == "qwen3_vl" else size)),
        chat_template=_chat(QWEN_SEES.format("image"), QWEN_SEES.format("video")),
    )
    return _model(config), processor


def qwen2_vl() -> tuple[Any, Any]:
    vision = {"depth": VISION["num_hidden_layers"], "embed_dim": VISION["hidden_size"], "num_heads": 2}
    return _qwen("qwen2_vl", vision | {"hidden_size": TEXT["hidden_size"], "patch_size": PATCH})


def qwen2_5_vl() -> tuple[Any, Any]:
    return _qwen("qwen2_5_vl", _qwen_tower() | {"fullatt_block_indexes": [1], "window_size": 56, "patch_size": PATCH})


def qwen3_vl() -> tuple[Any, Any]:
    vision = {"deepstack_visual_indexes": [0, 1], "patch_size": 16, "num_position_embeddings": 16}
    return _qwen("qwen3_vl", _qwen_tower() | vision, patch=16)


def _qwen_tower() -> dict[str, Any]:
    sizes = {"depth": VISION["num_hidden_layers"], "num_heads": 2, "out_hidden_size": TEXT["hidden_size"]}
    return sizes | {name: VISION[name] for name in ("hidden_size", "intermediate_size")}


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
    side = [_side(), _side()]
    vision = VISION | {"image_size": side, "patch_size": [PATCH, PATCH], "model_type": "internvl_vision"}
    config = AutoConfig.for_model(
        "internvl",
        text_config=_text(tokens, "qwen2"),
        vision_config=vision,
        image_token_id=4,
        image_seq_length=_patches() // 4,
    )
    processor = transformers.InternVLProcessor(
        _pixels("GotOcr2ImageProcessor", crop_to_patches=True, max_patches=4),
        tokens,
        _pixels("InternVLVideoProcessor"),
        image_seq_length=_patches() // 4,
        chat_template=_chat("<IMG_CONTEXT>\\n", "<video>\\n"),
    )
    return _model(config), processor


def _idefics(kind: str, name: str, **more: Any) -> tuple[Any, Any]:
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokens = tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *rows)
    parts = {"text_config": _text(tokens), "vision_config": VISION}
    config = AutoConfig.for_model(kind, **parts, image_token_id=4, scale_factor=2)
    processor = getattr(transformers, f"{name}Processor")(
        getattr(transformers, f"{name}ImageProcessor")(
            size={"longest_edge": 2 * _side()}, max_image_size={"longest_edge": _side()}, do_image_splitting=True
        ),
        tokens,
        image_seq_len=_patches() // 4,
        chat_template=_chat("<image>"),
        **more,
    )
    return _model(config), processor


def idefics3() -> tuple[Any, Any]:
    return _idefics("idefics3", "Idefics3")


def smolvlm() -> tuple[Any, Any]:
    size = {"longest_edge": _side()}
    return _idefics(
        "smolvlm",
        "SmolVLM",
        video_processor=transformers.SmolVLMVideoProcessor(size=size, max_image_size=size),
    )


def phi4_multimodal() -> tuple[Any, Any]:
    """Of sound, too, and with crops of a picture, whose tokens are those of 448 pixels whatever its numbers say."""
    tokens = tokenizer("<|image|>", "<|audio|>", image_token="<|image|>", audio_token="<|audio|>")
    tokens.chat_template = TEXT_CHAT
    config = AutoConfig.for_model(
        **_text(tokens, "phi4_multimodal", eos_token_id=[1], original_max_position_embeddings=4096),
        vision_config=VISION | {"image_size": 448, "crop_size": 448, "image_token_id": 4, "num_hidden_layers": 3},
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_blocks": 2,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 16,
            "depthwise_separable_out_channel": 16,
            "nemo_conv_channels": 16,
            "nemo_final_size": 16,
            "audio_token_id": 5,
        },
    )
    processor = transformers.Phi4MultimodalProcessor(
        transformers.Phi4MultimodalImageProcessor(dynamic_hd=1),
        transformers.Phi4MultimodalFeatureExtractor(),
        tokens,
    )
    return _model(config), processor


def paligemma() -> tuple[Any, Any]:
    tokens = tokenizer("<image>")
    pixels = _pixels("SiglipImageProcessor")
    pixels.image_seq_length = _patches()
    processor = transformers.PaliGemmaProcessor(pixels, tokens)  # adds tokens of its own
    config = AutoConfig.for_model(
        "paligemma",
        text_config=_text(tokens, "gemma"),
        vision_config=_tower() | {"projection_dim": TEXT["hidden_size"]},
        image_token_index=4,
        projection_dim=TEXT["hidden_size"],
        hidden_size=TEXT["hidden_size"],
    )
    return _model(config), processor


def gemma3() -> tuple[Any, Any]:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokens = tokenizer("<image_soft_token>", "<start_of_image>", "<end_of_image>", **names)
    text = _text(tokens, "gemma3_text", sliding_window=12, query_pre_attn_scalar=TEXT["head_dim"])
    text["num_hidden_layers"] = max(3, TEXT["num_hidden_layers"])
    config = AutoConfig.for_model(
        "gemma3",
        text_config=text,
        vision_config=_tower(),
        mm_tokens_per_image=_patches(),
        image_token_index=4,
        boi_token_index=5,
        eoi_token_index=6,
    )
    processor = transformers.Gemma3Processor(
        _pixels("Gemma3ImageProcessor"), tokens, image_seq_length=_patches(), chat_template=_chat("<start_of_image>")
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
        "image_size": _side(),
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
        vision_config=_tower(),
        image_token_index=4,
        downsample_factor=1,
        vision_feature_layer=-1,
        adapter_layer_norm_eps=1e-6,
    )
    processor = transformers.AyaVisionProcessor(
        _pixels("GotOcr2ImageProcessor", crop_to_patches=True, max_patches=4),
        tokens,
        patch_size=PATCH,
        img_size=_side(),
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
        *([smolvlm] if find_spec("num2words") else []),  # its processor does not begin without
    )
}
OTHERS: dict[str, Family] = {"paligemma": paligemma, "mllama": mllama, "phi4_multimodal": phi4_multimodal}
FAMILIES = SHARING | OTHERS
TAKE_VIDEOS = ("llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl")
