"""The published parts in every form they come in; every key accounted for; nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece
import torch
from checkpoints import same_weights, saved, weights_of
from safetensors.torch import load_file, save_file
from tiny_models import KIT, parts_in, tiny_config, tiny_llm, tiny_model
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import AutoModelForCausalLM

from mgtool.errors import CheckpointError, InputError, OutputError, ResumeError, UsageError
from mgtool.importing.options import ImportOptions
from mgtool.importing.plan import plan_import
from mgtool.importing.weights import TorchFile, entries_of, write_safetensors
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.stages.import_model import import_model


@pytest.mark.parametrize("form", ["bare", "state_dict", "old zip", "safetensors", "shards"])
def test_every_form_of_the_checkpoint_gives_the_same_model(form, parts, published, model_dir, tmp_path):
    path = tmp_path / "weights.pth"
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(published, path)
    elif form == "shards":
        path = tmp_path / "shards"
        path.mkdir()
        keys = sorted(published)
        names = {key: f"pytorch_model-{i % 2 + 1:05d}-of-00002.bin" for i, key in enumerate(keys)}
        for name in set(names.values()):
            torch.save({key: published[key] for key in keys if names[key] == name}, path / name)
        (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    else:
        content = {"state_dict": published, "meta": {"epoch": 1}} if form == "state_dict" else published
        torch.save(content, path, _use_new_zipfile_serialization=form != "old zip")
    import_model(replace(parts, checkpoint=path), tmp_path / "out")
    assert same_weights(tmp_path / "out", model_dir)


def test_any_view_of_a_storage_is_read(tmp_path):
    base = torch.arange(20.0).reshape(4, 5)
    weights = {
        "whole": base,
        "turned": base.T,
        "part": base[1:, 2:],
        "scalar": torch.tensor(3),
        "empty": torch.empty(0),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    torch.save({"state_dict": weights}, tmp_path / "views.pth")
    loaded = TorchFile(tmp_path / "views.pth").load()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    entries = entries_of(TorchFile(tmp_path / "views.pth"))
    with (tmp_path / "views.safetensors").open("wb") as file:
        write_safetensors(file, entries)
    again = load_file(tmp_path / "views.safetensors")
    assert all(torch.equal(again[key], value) and again[key].dtype == value.dtype for key, value in weights.items())


def test_wrappers_inside_keys_are_taken_off(parts, published, model_dir, tmp_path):
    wrapped = {
        "module."
        + key.replace("layers.0.", "layers.0._checkpoint_wrapped_module.")
        .replace("fuse_module.", "fuse_module._fsdp_wrapped_module.")
        .replace("projector.model", "projector._orig_mod.model"): value
        for key, value in published.items()
    }
    import_model(saved(parts, tmp_path / "wrapped.pth", wrapped), tmp_path / "out")
    assert same_weights(tmp_path / "out", model_dir)


def test_two_keys_for_one_weight_are_refused(parts, published, tmp_path):
    twice = published | {"module.projector.model.0.bias": published["projector.model.0.bias"]}
    with pytest.raises(CheckpointError, match=r"projector\.0\.bias twice"):
        plan_import(saved(parts, tmp_path / "twice.pth", twice))


def test_a_first_stage_checkpoint_takes_the_language_model_from_its_folder(parts, published, tmp_path):
    first = {key: value for key, value in published.items() if not key.startswith("llm.")}
    counts = import_model(saved(parts, tmp_path / "first.pth", first), tmp_path / "out").counts
    assert counts.llm_weights_from == "llm"
    own = load_file(KIT / "llm" / "model.safetensors")
    ours = weights_of(tmp_path / "out")
    assert all(torch.equal(ours[f"language_model.{key}"], value) for key, value in own.items())


def test_buffers_that_new_releases_compute_are_left_out(parts, published, model_dir, tmp_path):
    old = published | {"llm.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    import_model(saved(parts, tmp_path / "old.pth", old), tmp_path / "out")
    assert same_weights(tmp_path / "out", model_dir)


def without(weights, *keys):
    return {key: value for key, value in weights.items() if key not in keys}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: without(w, "llm.model.norm.weight"), r"1 missing \(language_model\.model\.norm\.weight\)"),
        (lambda w: w | {"extra.weight": torch.ones(1)}, r"1 unexpected \(extra\.weight\)"),
        (lambda w: w | {"llm.model.norm.weight": torch.ones(3)}, r"1 of another shape .*norm\.weight \[3\] for \[64\]"),
        (
            lambda w: {k: v for k, v in w.items() if "layers.0" not in k and "norm" not in k},
            r"12 missing \(.*, and 2 more\)",
        ),
        (lambda w: without(w, "fuse_module.fast_conv.bias"), r"1 missing \(fusion\.fast_conv\.bias\)"),
        (lambda w: without(w, "projector.model.0.weight"), "no MG-LLaVA checkpoint"),
        (lambda w: w | {"projector.model.0.weight": torch.ones(64, 48)}, "projector takes 48 channels with a gate"),
    ],
)
def test_keys_that_do_not_fit_are_listed_in_one_line(change, message, parts, published, tmp_path):
    with pytest.raises(CheckpointError, match=message) as refusal:
        import_model(saved(parts, tmp_path / "odd.pth", change(published)), tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def variant_checkpoint(folder: Path, **changes) -> ImportOptions:
    """The four published parts of a tiny model of another variant."""
    model = tiny_model(tiny_config(**changes))
    names = {
        "language_model": "llm",
        "projector": "projector.model",
        "box_projector": "bbox_projector.model",
        "fusion": "fuse_module",
    }
    own, low, high = {}, {}, {}
    for key, value in model.state_dict().items():
        part, _, rest = key.partition(".")
        if part in names:
            own[f"{names[part]}.{rest}"] = value.clone()
        elif part == "low_tower":
            low["vision_model." + rest.removeprefix("encoder.")] = value.clone()
        else:
            high[f"visual.trunk.{rest}"] = value.clone()
    for name in ("clip", "convnext"):
        (folder / name).mkdir(parents=True)
    torch.save(own, folder / "variant.pth")
    save_file(low | {"text_model.final_layer_norm.bias": torch.ones(4)}, folder / "clip" / "model.safetensors")
    model.config.low_config.save_pretrained(folder / "clip")
    torch.save(high | {"text.positional_embedding": torch.ones(4)}, folder / "convnext" / "open_clip_pytorch_model.bin")
    shutil.copy(KIT / "convnext" / "open_clip_config.json", folder / "convnext")
    shutil.copytree(KIT / "llm", folder / "llm")
    model.config.text_config.save_pretrained(folder / "llm")
    return parts_in(folder, "variant.pth")


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("fusion", ["conv_gate", "conv_gate_concat", "channel_concat", "none"])
def test_a_checkpoint_s_variant_is_found_and_another_is_refused(fusion, boxes, tmp_path):
    own = variant_checkpoint(tmp_path / "parts", fusion=fusion, boxes=boxes)
    counts = import_model(own, tmp_path / "out").counts
    assert (counts.fusion, counts.boxes) == (fusion, boxes)
    model = MGLlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert (model.config.fusion, model.config.boxes) == (fusion, boxes)
    other = "none" if fusion != "none" else "conv_gate"
    with pytest.raises(CheckpointError, match=f"holds fusion {fusion}, not {other}"):
        plan_import(replace(own, fusion=other))


def test_a_siglip_folder_serves_as_low_tower(tmp_path):
    own = variant_checkpoint(tmp_path / "parts", low="siglip_vision_model")
    (own.clip / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    import_model(own, tmp_path / "out")
    assert MGLlavaProcessor.from_pretrained(tmp_path / "out").image_mean == [0.5] * 3
    assert MGLlavaForConditionalGeneration.from_pretrained(tmp_path / "out").low_tower.patches == 9


def test_tied_embeddings_need_no_second_copy(tmp_path):
    own = variant_checkpoint(tmp_path / "parts", kind="qwen2")
    weights = torch.load(own.checkpoint, weights_only=True)
    torch.save(without(weights, "llm.lm_head.weight"), own.checkpoint)
    import_model(own, tmp_path / "out")
    model = MGLlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert torch.equal(model.get_output_embeddings().weight, weights["llm.model.embed_tokens.weight"])


def test_a_head_of_its_own_is_not_dropped_for_a_tied_one(tmp_path):
    own = variant_checkpoint(tmp_path / "parts", kind="qwen2")
    weights = torch.load(own.checkpoint, weights_only=True)
    torch.save(weights | {"llm.lm_head.weight": weights["llm.model.embed_tokens.weight"] + 1}, own.checkpoint)
    with pytest.raises(CheckpointError, match="set tie_word_embeddings to false"):
        plan_import(own)


def test_the_folder_s_own_tokenizer_file_counts(parts, tmp_path):
    """A Llama tokenizer whose file puts no space before a text, which the class of that name would."""
    llm = tmp_path / "llm"
    shutil.copytree(KIT / "llm", llm, ignore=shutil.ignore_patterns("*token*"))
    original = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    original.normalizer, original.decoder = normalizers.Replace(" ", "▁"), decoders.Replace("▁", " ")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    original.train_from_iterator([(KIT / "cases.json").read_text(), "USER: ASSISTANT:"], trainer)
    original.save(str(llm / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}
    (llm / "tokenizer_config.json").write_text(json.dumps(special))
    import_model(replace(parts, llm=llm), tmp_path / "out")
    ids = MGLlavaProcessor.from_pretrained(tmp_path / "out").tokenize([("<image>\nWhat?", None)])
    texts = [original.encode(text, add_special_tokens=False).ids for text in ("USER: ", "\nWhat? ASSISTANT:")]
    assert ids == [1, *texts[0], -200, *texts[1]]


def test_a_tokenizer_of_sentencepiece_alone_is_imported(parts, tmp_path):
    """As the published Vicuna folders have it: `tokenizer.model` and no `tokenizer.json`."""
    llm = tmp_path / "llm"
    shutil.copytree(KIT / "llm", llm, ignore=shutil.ignore_patterns("*token*"))
    (tmp_path / "text.txt").write_text((KIT / "cases.json").read_text())
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"),
        model_prefix=str(llm / "tokenizer"),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False}
    (llm / "tokenizer_config.json").write_text(json.dumps(special | {"tokenizer_class": "LlamaTokenizer"}))
    import_model(replace(parts, llm=llm), tmp_path / "out")
    processor = MGLlavaProcessor.from_pretrained(tmp_path / "out")
    original = sentencepiece.SentencePieceProcessor(model_file=str(llm / "tokenizer.model"))
    ids = processor.tokenize([("<image>\nWhat is the box?", None)])
    assert ids == [1, *original.encode("USER: "), -200, *original.encode("\nWhat is the box? ASSISTANT:")]


# --- DeepSpeed ZeRO


@pytest.mark.parametrize("name", ["checkpoint", "llm", "clip", "convnext"])
def test_a_part_that_is_not_there_is_named(name, parts, tmp_path):
    with pytest.raises(InputError, match=f"`{name}` .*: no such"):
        plan_import(replace(parts, **{name: tmp_path / "nowhere"}))


def test_an_unknown_template_is_named(parts):
    with pytest.raises(UsageError, match="one of vicuna, llama3_chat, phi3_chat"):
        plan_import(replace(parts, template="alpaca"))


# --- the output folder


def test_a_second_import_leaves_the_first_as_it_is_and_another_is_refused(parts, tmp_path):
    out = tmp_path / "out"
    first = import_model(parts, out)
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert import_model(parts, out) == first
    assert "426521" in first._repr_html_()
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == before
    with pytest.raises(ResumeError, match="template vicuna, now it is phi3_chat"):
        import_model(replace(parts, template="phi3_chat"), out)
    import_model(replace(parts, template="phi3_chat"), out, overwrite=True)
    assert MGLlavaProcessor.from_pretrained(out).template == "phi3_chat"


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(("name", "content"), [("letter.txt", "dear"), ("run.json", '{"command": "detect"}')])
def test_a_foreign_folder_is_never_touched(name, content, overwrite, parts, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(OutputError, match="holds no import"):
        import_model(parts, tmp_path, overwrite=overwrite)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, content)]


def test_run_json_says_what_was_imported(parts, model_dir):
    record = json.loads((model_dir / "run.json").read_text())
    assert record["command"] == "import"
    assert record["times"]["finished"]
    assert record["counts"]["parameters"] == plan_import(parts).counts.parameters
    assert record["options"] == {"template": "vicuna", "fusion": None, "max_shard_size": 5.0}
    assert set(record["model"]["files"]) == {"model.safetensors", "config.json"}


def test_shards_have_an_index_and_hold_the_same(parts, model_dir, tmp_path):
    counts = import_model(replace(parts, max_shard_size=0.0004), tmp_path / "out").counts
    files = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) == counts.shards == 5
    assert same_weights(tmp_path / "out", model_dir)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert counts.largest_shard_bytes <= 400_000


def test_a_template_file_travels_with_the_model(parts, tmp_path):
    spec = tmp_path / "yi.json"
    fields = {
        "instruction": "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        "answer_end": "<|im_end|>",
        "separator": "\n",
    }
    spec.write_text(json.dumps(fields))
    import_model(replace(parts, template=str(spec)), tmp_path / "out")
    spec.unlink()
    processor = MGLlavaProcessor.from_pretrained(tmp_path / "out")
    assert processor.stop_strings == ["<|im_end|>"]
    assert processor.render([("hi", None)]).endswith("user\nhi<|im_end|>\n<|im_start|>assistant\n")


KILLED = """
import os, signal, sys
from pathlib import Path
from mgtool.importing.options import ImportOptions
from mgtool.stages.import_model import import_model
*places, out = map(Path, sys.argv[1:])
parts = dict(zip(("checkpoint", "llm", "clip", "convnext"), places))
options = ImportOptions(**parts, max_shard_size=0.0004)
import_model(options, out, advance=lambda n: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_import_leaves_no_folder_and_the_next_one_is_whole(parts, model_dir, tmp_path):
    out = tmp_path / "out"
    places = [str(path) for path in (parts.checkpoint, parts.llm, parts.clip, parts.convnext, out)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *places], check=False)
    assert killed.returncode == -9
    assert not out.exists()
    assert any(tmp_path.iterdir())  # what it had begun, under another name
    import_model(parts, out)
    assert same_weights(out, model_dir)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_language_model_s_dtype_is_the_model_s(dtype, parts, published, tmp_path):
    narrow = {key: value.to(dtype) for key, value in published.items()}
    import_model(saved(parts, tmp_path / "narrow.pth", narrow), tmp_path / "out")
    model = MGLlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@pytest.mark.parametrize("kind", ["mistral", "phi3", "qwen2"])
def test_other_language_models_are_imported_from_their_own_folders(kind, tmp_path):
    own = variant_checkpoint(tmp_path / "parts", kind=kind)
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_config(tiny_llm(kind))
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(KIT / "llm" / file, tmp_path)
    shutil.rmtree(own.llm)
    llm.save_pretrained(own.llm)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(KIT / "llm" / file, own.llm)
    weights = torch.load(own.checkpoint, weights_only=True)
    torch.save({key: value for key, value in weights.items() if not key.startswith("llm.")}, own.checkpoint)
    import_model(own, tmp_path / "out")
    model = MGLlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert torch.equal(model.get_input_embeddings().weight, llm.get_input_embeddings().weight)


def test_a_low_tower_of_another_grid_is_refused(tmp_path):
    own = variant_checkpoint(tmp_path / "parts")
    config = json.loads((own.clip / "config.json").read_text())
    (own.clip / "config.json").write_text(json.dumps(config | {"image_size": 56}))
    with pytest.raises(CheckpointError, match="of another shape"):
        plan_import(own)
