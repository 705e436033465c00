"""`mgtool import` as a person types it."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from mgtool.inputs.model_folders import model_identity
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.model.templates import TEMPLATES


def command(parts, out, *more):
    places = {"checkpoint": parts.checkpoint, "llm": parts.llm, "clip": parts.clip, "convnext": parts.convnext}
    return ["import", *(word for name, path in places.items() for word in (f"--{name}", path)), "--out", out, *more]


def test_parts_become_one_folder(mgtool, parts, tmp_path):
    code, out, err = mgtool(*command(parts, tmp_path / "model", "--template", "phi3_chat", "--json", "-q"))
    assert (code, err) == (0, "")
    assert json.loads(out)["fusion"] == "conv_gate"
    assert MGLlavaProcessor.from_pretrained(tmp_path / "model").template == "phi3_chat"


def test_the_summary_goes_to_stderr_and_quiet_hides_it(mgtool, parts, tmp_path):
    code, out, err = mgtool(*command(parts, tmp_path / "model"))
    assert (code, out) == (0, "")
    assert "426,521" in err
    assert mgtool(*command(parts, tmp_path / "model", "-q")) == (0, "", "")


def test_a_dry_run_counts_and_writes_nothing(mgtool, parts, tmp_path):
    code, out, _ = mgtool(*command(parts, tmp_path / "model", "--dry-run", "--json", "--max-shard-size", "0.001"))
    assert code == 0
    assert json.loads(out)["shards"] == 2
    assert list(tmp_path.iterdir()) == []


def test_options_come_from_the_environment_and_a_file(mgtool, parts, tmp_path, monkeypatch):
    (tmp_path / "mgtool.toml").write_text('[import]\ntemplate = "llama3_chat"\n')
    mgtool(*command(parts, tmp_path / "one", "-q", "--config", tmp_path / "mgtool.toml"))
    assert MGLlavaProcessor.from_pretrained(tmp_path / "one").template == "llama3_chat"
    monkeypatch.setenv("MGTOOL_TEMPLATE", "phi3_chat")
    mgtool(*command(parts, tmp_path / "two", "-q", "--config", tmp_path / "mgtool.toml"))
    assert MGLlavaProcessor.from_pretrained(tmp_path / "two").template == "phi3_chat"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--template", "alpaca"), "--template alpaca is not known"),
        (("--fusion", "none"), "holds fusion conv_gate, not none"),
        (("--checkpoint", "nowhere.pth"), "nowhere.pth: no such file"),
        (("--llm", "nowhere"), "--llm nowhere: no such folder"),
    ],
)
def test_what_is_wrong_is_one_line(more, message, mgtool, parts, tmp_path):
    code, out, err = mgtool(*command(parts, tmp_path / "model", *more))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "model").exists()


def test_another_import_is_refused_unless_it_may_overwrite(mgtool, parts, tmp_path):
    out = tmp_path / "model"
    assert mgtool(*command(parts, out, "-q"))[0] == 0
    code, _, err = mgtool(*command(parts, out, "-q", "--template", "phi3_chat"))
    assert code == 2
    assert "template" in err
    assert "--overwrite" in err
    assert mgtool(*command(parts, out, "-q", "--template", "phi3_chat", "--overwrite"))[0] == 0


def test_another_template_is_another_model(mgtool, parts, tmp_path):
    """Answers of the one are no answers of the other, though the weights are the same."""
    identities = []
    for template in ("vicuna", "phi3_chat", "vicuna"):
        assert mgtool(*command(parts, tmp_path / "model", "--template", template, "--overwrite", "-q"))[0] == 0
        identities.append(model_identity(tmp_path / "model"))
    assert identities[0] != identities[1]
    assert identities[0] == identities[2]


def test_a_template_of_ones_own_is_known_by_what_it_says(mgtool, parts, tmp_path):
    template, file = dataclasses.asdict(TEMPLATES["vicuna"]), tmp_path / "own.json"
    file.write_text(json.dumps(template))
    arguments = command(parts, tmp_path / "model", "--template", file, "-q")
    assert mgtool(*arguments)[0] == 0
    file.write_text(json.dumps({**template, "name": "another"}))
    code, _, err = mgtool(*arguments)
    assert (code, "template" in err) == (2, True)


def test_other_weights_in_the_same_folder_are_another_model(mgtool, parts, tmp_path):
    out = tmp_path / "model"
    assert mgtool(*command(parts, out, "-q"))[0] == 0
    model = MGLlavaForConditionalGeneration.from_pretrained(out)
    model.save_pretrained(out)
    before = model_identity(out)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(out)
    assert model_identity(out) != before


def test_what_no_import_wrote_stays_in_the_folder(mgtool, parts, tmp_path):
    out = tmp_path / "model"
    assert mgtool(*command(parts, out, "-q", "--max-shard-size", "0.001"))[0] == 0
    (out / "my-notes.txt").write_text("mine")
    (out / "plots").mkdir()
    (out / "plots" / "loss.svg").write_text("mine, too")
    assert mgtool(*command(parts, out, "-q", "--overwrite"))[0] == 0
    assert ((out / "my-notes.txt").read_text(), (out / "plots" / "loss.svg").read_text()) == ("mine", "mine, too")
    assert [path.name for path in out.glob("model*")] == ["model.safetensors"]


def test_a_part_is_never_the_output(mgtool, parts, tmp_path):
    assert mgtool(*command(parts, tmp_path / "model", "-q"))[0] == 0
    own = dataclasses.replace(parts, llm=tmp_path / "model")
    code, _, err = mgtool(*command(own, tmp_path / "model", "-q", "--overwrite"))
    assert (code, "is --llm of this import" in err) == (2, True)
    assert (tmp_path / "model" / "config.json").is_file()


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_told(mgtool, parts, tmp_path):
    shutil.copytree(parts.llm, tmp_path / "llm")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "llm")
    tokenizer.add_tokens([f"zebra{n}" for n in range(3)])
    tokenizer.save_pretrained(tmp_path / "llm")
    own = dataclasses.replace(parts, llm=tmp_path / "llm")
    code, _, err = mgtool(*command(own, tmp_path / "model", "-q"))
    rows = MGLlavaForConditionalGeneration.from_pretrained(tmp_path / "model").config.text_config.vocab_size
    said = f"the tokenizer has {len(tokenizer)} tokens and the language model's embedding {rows} rows"
    assert (code, said in " ".join(err.split())) == (0, True)


def test_weights_that_are_no_numbers_are_refused(mgtool, parts, tmp_path):
    weights = torch.load(parts.checkpoint, weights_only=True)
    key = next(key for key in weights.get("state_dict", weights) if key.startswith("projector"))
    weights.get("state_dict", weights)[key].view(-1)[0] = float("nan")
    torch.save(weights, tmp_path / "bad.pth")
    own = dataclasses.replace(parts, checkpoint=tmp_path / "bad.pth")
    code, _, err = mgtool(*command(own, tmp_path / "model", "-q"))
    assert (code, key in err, "NaN" in err) == (2, True, True)
    assert not (tmp_path / "model").exists()
