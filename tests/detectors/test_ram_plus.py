"""RAM++ against the conformance kit, and every way in which its files can be wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mgtool import detectors
from mgtool.detectors.ram_plus import RamPlusTagger
from mgtool.detectors.ram_plus_model import RamPlusConfig
from mgtool.errors import CheckpointError, InputError, RecordError

TESTS = Path(__file__).parent.parent
KIT = TESTS / "conformance" / "ram_plus"
CASES = {case["image"]: case["tags"] for case in json.loads((KIT / "cases.json").read_text())}


@pytest.fixture(scope="module")
def tagger() -> RamPlusTagger:
    return RamPlusTagger(KIT / "ram_plus_tiny.pth")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.open(TESTS / "images" / name).convert("RGB") for name in CASES]


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KIT, tmp_path / "kit"))


def change(kit: Path, edit) -> None:
    path = kit / "ram_plus_tiny.pth"
    whole = torch.load(path, weights_only=True)
    edit(whole["model"])
    torch.save(whole, path)


@pytest.mark.parametrize("name", CASES)
def test_pixels_logits_and_tags_are_the_references(tagger, name: str) -> None:
    expected = load_file(KIT / "expected.safetensors")
    picture = Image.open(TESTS / "images" / name)
    pixels = tagger.pixels([picture])
    logits = tagger.logits(pixels)[0]
    assert torch.equal(pixels[0, :, ::16, ::16], expected[f"{name}/pixels_s16"])
    assert (logits - expected[f"{name}/logits"]).abs().max() < 1e-4
    assert " | ".join(tagger.tag([picture])[0]) == CASES[name]


def test_a_batch_equals_singles(tagger, pictures) -> None:
    assert [" | ".join(tags) for tags in tagger.tag(pictures)] == list(CASES.values())
    singles = torch.cat([tagger.logits(tagger.pixels([picture])) for picture in pictures])
    torch.testing.assert_close(tagger.logits(tagger.pixels(pictures)), singles, atol=1e-5, rtol=0)
    assert tagger.tag([]) == []


def test_a_narrow_format_moves_logits_little(tagger, pictures) -> None:
    narrow = RamPlusTagger(KIT / "ram_plus_tiny.pth", dtype="bfloat16")
    pixels = tagger.pixels(pictures[:1])
    before, after = tagger.logits(pixels), narrow.logits(pixels)
    assert after.dtype == torch.float32
    assert 0 < (before - after).abs().max() < 0.1
    assert narrow.identity != tagger.identity


def test_reweighting_equals_a_loop_over_pictures_and_tags(tagger) -> None:
    model = tagger.model
    mean = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = model.reweighted(mean)
        for picture in range(2):
            for tag in range(len(tagger.tags)):
                rows = model.label_embed[tag * 51 : (tag + 1) * 51]
                weights = (model.reweight_scale.exp() * rows @ (mean[picture] / mean[picture].norm())).softmax(0)
                torch.testing.assert_close(got[picture, tag], weights @ rows, atol=1e-5, rtol=1e-4)


def test_without_a_configuration_the_widths_are_the_published_ones(kit: Path) -> None:
    (kit / "config.json").unlink()
    assert RamPlusConfig().swin.depths == (2, 2, 18, 2)
    change(kit, lambda state: [state.pop(key) for key in list(state) if key.startswith("visual_encoder")])
    with pytest.raises(CheckpointError, match=r"missing: .*visual_encoder.* and \d+ more; of other sizes: "):
        RamPlusTagger(kit / "ram_plus_tiny.pth")


def test_tag_files_by_option_and_from_an_installed_package(kit: Path, pictures, monkeypatch) -> None:
    for name in ("ram_tag_list.txt", "ram_tag_list_threshold.txt"):
        (kit / "ram" / "data").mkdir(parents=True, exist_ok=True)
        (kit / name).rename(kit / "ram" / "data" / name)
    (kit / "ram" / "__init__.py").write_text("raise RuntimeError('never imported')")
    spec = f"ram++:{kit / 'ram_plus_tiny.pth'}"
    with pytest.raises(InputError, match=r"no ram_tag_list\.txt beside .*: download it from https://.*`tag_list` FILE"):
        detectors.load_tagger(spec, device="cpu")
    data = kit / "ram" / "data"
    given = detectors.load_tagger(
        spec,
        device="cpu",
        tag_list=str(data / "ram_tag_list.txt"),
        tag_thresholds=str(data / "ram_tag_list_threshold.txt"),
    )
    monkeypatch.syspath_prepend(kit)
    packaged = detectors.load_tagger(spec, device="cpu")
    assert given.identity == packaged.identity
    assert packaged.tag(pictures[2:]) == [tuple(CASES["coffee.jpg"].split(" | "))]


def test_the_thresholds_are_part_of_the_identity(kit: Path, tagger) -> None:
    (kit / "ram_tag_list_threshold.txt").write_text("0.5\n" * 24)
    assert RamPlusTagger(kit / "ram_plus_tiny.pth").identity != tagger.identity


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("fc.bias"), r"missing: fc\.bias$"),
        (lambda s: s.update(text_decoder=torch.zeros(1)), r"unexpected: text_decoder$"),
        (lambda s: s.update({"fc.bias": torch.zeros(2)}), r"of other sizes: fc\.bias$"),
        (lambda s: s.update(label_embed=s["label_embed"][:51]), "made for 1 tags, but the tag list has 24"),
        (lambda s: s.pop("label_embed"), "no RAM.. checkpoint"),
    ],
)
def test_every_key_is_accounted_for(kit: Path, edit, message: str) -> None:
    change(kit, edit)
    with pytest.raises(CheckpointError, match=message) as error:
        RamPlusTagger(kit / "ram_plus_tiny.pth")
    assert "\n" not in str(error.value)


def test_buffers_that_follow_from_the_widths_may_be_absent(kit: Path, pictures) -> None:
    derived = ("attn_mask", "relative_position_index")
    change(kit, lambda state: [state.pop(key) for key in list(state) if key.endswith(derived)])
    assert RamPlusTagger(kit / "ram_plus_tiny.pth").tag(pictures[:1]) == [()]


def test_files_that_are_not_there_or_broken(kit: Path, tmp_path: Path) -> None:
    checkpoint = kit / "ram_plus_tiny.pth"
    with pytest.raises(CheckpointError, match="no such file"):
        RamPlusTagger(tmp_path / "none.pth")
    (kit / "ram_tag_list.txt").write_text("one\n")
    with pytest.raises(InputError, match=r"1 tags, .* 24 thresholds"):
        RamPlusTagger(checkpoint)
    (kit / "ram_tag_list_threshold.txt").write_text("high\n")
    with pytest.raises(InputError, match="one number a line"):
        RamPlusTagger(checkpoint)
    (kit / "config.json").write_text('{"swin": {"width": 1}}')
    with pytest.raises(RecordError, match=r"config\.json"):
        RamPlusTagger(checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut short"):
        RamPlusTagger(checkpoint)
