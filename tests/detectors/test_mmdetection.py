"""MMDetection's own models, tiny, with random weights made here, against MMDetection's own inference."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny_mmdet as tiny
import torch
from PIL import Image

from mgtool import detectors
from mgtool.boxes import formats
from mgtool.detectors import Settings, mmdetection
from mgtool.errors import CheckpointError, UsageError
from mgtool.records import Detections

IMAGES = Path(__file__).parents[1] / "images"
QUICK = ("rtmdet", "faster-rcnn", "grounding-dino", "glip")
EACH = [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in tiny.KINDS]
WORDS = ("cat", "red cup", "dog")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind -> spec; each model is made when it is first asked for."""

    class Made(dict):
        def __missing__(self, kind: str) -> str:
            self[kind] = tiny.save(kind, tmp_path_factory.mktemp(kind))
            return self[kind]

    return Made()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    names = ("china.jpg", "coffee.jpg", "astronaut_portrait.jpg")
    return [Image.open(IMAGES / name).convert("RGB") for name in names]


def load(spec: str, **settings) -> mmdetection.MMDetection:
    return detectors.load(
        spec, threshold=settings.pop("threshold", 0.0), device="cpu", **{"trust_config": True, **settings}
    )


def own(spec: str, picture: Image.Image) -> Detections:
    """What MMDetection's own inference gives on the same files, best first."""
    _, config, weights = spec.split(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mmdet.apis import inference_detector, init_detector
        from mmengine.config import Config

        config = Config.fromfile(config)
        asked = {}
        if "language_model" in config.model:
            mmdetection.place_language_model(config, Path(weights).with_name("bert-base-uncased"))
            asked = {"text_prompt": WORDS, "custom_entities": True}
        model = init_detector(config, weights, device="cpu")
        pixels = np.asarray(picture)[:, :, ::-1].copy()
        found = inference_detector(model, pixels, **asked).pred_instances
    names = WORDS if asked else model.dataset_meta["classes"]
    boxes = [tuple(box) for box in found.bboxes.tolist()]
    labels = [names[label] for label in found.labels.tolist()]
    return detectors.base.ranked(zip(found.scores.tolist(), boxes, labels, strict=True))


def same(one: Detections, other: Detections, count: int = 30) -> None:
    """The best objects agree; near the end, random scores are too close to have an order."""
    assert len(one.scores) == len(other.scores) > 0
    scores = torch.tensor(one.scores[:count])
    torch.testing.assert_close(scores, torch.tensor(other.scores[:count]), atol=1e-5, rtol=0)
    left = list(zip(other.labels, other.boxes, other.scores, strict=True))
    for label, box, score in list(zip(one.labels, one.boxes, one.scores, strict=True))[:count]:
        match = min(
            (entry for entry in left if entry[0] == label and abs(entry[2] - score) < 1e-5),
            key=lambda entry: sum(abs(a - b) for a, b in zip(entry[1], box, strict=True)),
            default=None,
        )
        assert match is not None, (label, score)
        assert match[1] == pytest.approx(box, abs=0.05)
        left.remove(match)


@pytest.mark.parametrize("kind", EACH)
def test_equals_mmdetections_own_inference(specs, pictures, kind: str) -> None:
    (found,) = load(specs[kind], vocabulary=WORDS if kind in tiny.OPEN else None).detect(pictures[:1], None)
    assert set(found.labels) <= set(WORDS if kind in tiny.OPEN else tiny.CLASSES)
    assert list(found.scores) == sorted(found.scores, reverse=True)
    same(found, own(specs[kind], pictures[0]))


@pytest.mark.parametrize("kind", EACH)
def test_a_batch_equals_singles(specs, pictures, kind: str) -> None:
    detector = load(specs[kind], vocabulary=WORDS if kind in tiny.OPEN else None)
    for picture, together in zip(pictures, detector.detect(pictures, None), strict=True):
        same(detector.detect([picture], None)[0], together)


def test_a_closed_set_refuses_words(specs) -> None:
    with pytest.raises(UsageError, match=r"`vocabulary`: `detector` mmdet:.* looks for no words; `keep`"):
        load(specs["faster-rcnn"], vocabulary=WORDS)


def test_pictures_of_one_size_share_a_forward_pass(specs, pictures) -> None:
    detector = load(specs["faster-rcnn"])
    sizes: list[int] = []
    detector._model.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    detector.detect(pictures, None)
    assert sizes == [2, 1]


@pytest.mark.parametrize("kind", [kind for kind in EACH if kind.values[0] in tiny.OPEN])
def test_each_picture_is_asked_for_its_own_words(specs, pictures, kind: str) -> None:
    detector = load(specs[kind])
    pictures = [*pictures, pictures[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    words = [("cat",), (), ("teapot", "st. bernard"), ("cat",)]
    found = detector.detect(pictures, words)
    assert found[1].boxes == ()
    for picture, asked, together in zip(pictures, words, found, strict=True):
        assert set(together.labels) <= set(asked)
        if asked:
            same(detector.detect([picture], [asked])[0], together)
    with pytest.raises(UsageError, match="give `vocabulary` or `tagger`"):
        detector.detect(pictures[:1], None)


def test_more_words_than_the_text_encoder_reads_at_once(specs, pictures) -> None:
    detector = load(specs["grounding-dino"])
    words = tuple("abcdefgh"[index % 8] * (1 + index // 8) for index in range(120))
    parts = list(detector.word_parts(words))
    assert len(parts) > 1
    assert tuple(word for part in parts for word in part) == words
    (found,) = detector.detect(pictures[:1], [words])
    alone = [detector.detect(pictures[:1], [part])[0] for part in parts]
    assert sorted(found.scores) == pytest.approx(sorted(score for one in alone for score in one.scores), abs=1e-5)


def test_a_config_s_own_parts_are_kept_and_work_on_batches(tmp_path: Path, pictures) -> None:
    detector = load(tiny.save("mm-grounding-dino", tmp_path, chunked_size=2), vocabulary=WORDS)
    assert list(detector.word_parts(WORDS)) == [WORDS[:2], WORDS[2:]]
    same(own(f"mmdet:{tmp_path / 'config.py'}:{tmp_path / 'w.pth'}", pictures[0]), detector.detect(pictures, None)[0])


@pytest.mark.parametrize(
    ("word", "phrase"), [("bow_(weapon)", "bow"), ("st. bernard", "st bernard"), ("red_cup", "red cup"), ("(x)", "")]
)
def test_words_cannot_break_the_sentence_they_stand_in(word: str, phrase: str) -> None:
    assert mmdetection.as_phrase(word) == phrase


def test_the_language_model_lies_beside_the_checkpoint_or_is_asked_for(specs, tmp_path: Path) -> None:
    folder = Path(specs["glip"].split(":")[2]).parent
    for name in ("config.py", "w.pth"):
        shutil.copy(folder / name, tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"reads words with bert-base-uncased: put its folder into {tmp_path}"):
        load(f"mmdet:{tmp_path / 'config.py'}:{tmp_path / 'w.pth'}")
    shutil.copytree(folder / "bert-base-uncased", tmp_path / "bert-base-uncased")
    assert load(f"mmdet:{tmp_path / 'config.py'}:{tmp_path / 'w.pth'}").identity == load(specs["glip"]).identity


def test_the_visualiser_is_mmdetections_own(specs, pictures) -> None:
    found = Detections(((100.0, 50.0, 300.0, 250.0),), (0.9,), ("red cup",))
    drawn = load(specs["rtmdet"]).draw(pictures[0], found)
    assert drawn.size == pictures[0].size
    changed = np.abs(np.asarray(drawn, dtype=int) - np.asarray(pictures[0], dtype=int)).max(axis=2) > 32
    assert changed[50:250, 98:103].any(axis=1).all()
    assert not changed[270:].any()
    assert load(specs["rtmdet"]).draw(pictures[0], Detections()).size == pictures[0].size


def test_names_come_from_the_checkpoint_the_config_or_coco(specs) -> None:
    _, config, weights = specs["rtmdet"].split(":")
    config = mmdetection.read_config(config)
    checkpoint = torch.load(weights)
    assert mmdetection.class_names(config, checkpoint) == tiny.CLASSES
    assert mmdetection.class_names(config, {"meta": {"CLASSES": ("old",)}}) == ("old",)
    assert mmdetection.class_names(config, {"state_dict": {}}) is None
    config.test_dataloader.dataset.metainfo = {"classes": ("mine",)}
    assert mmdetection.class_names(config, {"state_dict": {}}) == ("mine",)


def test_shipped_names_are_found_and_mistakes_are_one_line(specs, tmp_path: Path) -> None:
    weights = specs["rtmdet"].rpartition(":")[2]
    with pytest.raises(CheckpointError, match=r"lacks|does not fit"):
        load(f"mmdet:rtmdet_tiny_8xb32-300e_coco:{weights}")  # found, but of other widths
    with pytest.raises(UsageError, match="no such config"):
        load("mmdet:no_such_config:w.pth")
    with pytest.raises(UsageError, match=r"give its weights too: .*CHECKPOINT"):
        load("mmdet:rtmdet_tiny_8xb32-300e_coco")
    config = specs["rtmdet"].split(":")[1]
    with pytest.raises(CheckpointError, match="no such file"):
        load(f"mmdet:{config}:{tmp_path / 'none.pth'}")
    torch.save({"state_dict": {}, "meta": {"odd": Path("x")}}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="`trust_checkpoint`"):
        load(f"mmdet:{config}:{tmp_path / 'odd.pth'}")
    with pytest.raises(CheckpointError, match="lacks"):
        load(f"mmdet:{config}:{tmp_path / 'odd.pth'}", trust_checkpoint=True)


def test_a_checkpoint_may_bring_its_config(specs, pictures, tmp_path: Path) -> None:
    _, config, weights = specs["rtmdet"].split(":")
    checkpoint = torch.load(weights)
    with pytest.raises(UsageError, match="carries no config: give `detector` mmdet:CONFIG:"):
        load(f"mmdet:{weights}")
    checkpoint["meta"]["cfg"] = Path(config).read_text()
    alone = tmp_path / "alone.pth"
    torch.save(checkpoint, alone)
    with pytest.raises(UsageError, match=r"is Python code: .*`trust_checkpoint`"):
        load(f"mmdet:{alone}")
    found = load(f"mmdet:{alone}", trust_checkpoint=True).detect(pictures[:1], None)
    assert found == load(specs["rtmdet"]).detect(pictures[:1], None)
    checkpoint["meta"]["cfg"] = "model = dict("
    torch.save(checkpoint, alone)
    with pytest.raises(UsageError, match="the checkpoint's config cannot be read"):
        load(f"mmdet:{alone}", trust_checkpoint=True)


def test_narrow_number_formats_are_refused(specs) -> None:
    with pytest.raises(UsageError, match="`detector` mmdet computes in float32"):
        load(specs["rtmdet"], dtype="bfloat16")


def test_a_missing_operator_ends_the_run_with_one_line(specs, pictures, tmp_path: Path) -> None:
    _, config, weights = specs["faster-rcnn"].split(":")
    config = mmdetection.read_config(config)
    config.model.roi_head.bbox_roi_extractor.roi_layer = {
        "type": "RoIAlignRotated", "output_size": 7, "sampling_ratio": 0, "clockwise": True,
    }  # fmt: skip
    config.dump(tmp_path / "rotated.py")
    detector = load(f"mmdet:{tmp_path / 'rotated.py'}:{weights}")
    with pytest.raises(UsageError, match=r"operator roi_align_rotated_forward, which mmcv-lite lacks; install mmcv"):
        detector.detect(pictures[:1], None)


@pytest.mark.slow
def test_a_tagger_s_words_and_the_own_visualiser_from_the_command_line(specs, tmp_path: Path) -> None:
    tagger = f"ram++:{IMAGES.parent / 'conformance' / 'ram_plus' / 'ram_plus_tiny.pth'}"
    command = [sys.executable, "-m", "mgtool.commands.main", "detect", str(IMAGES), "--detector", specs["glip"]]
    command += ["--tagger", tagger, "--trust-config", "--threshold", "0", "--visualize", "1"]
    command += ["--out", str(tmp_path / "out"), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
    records = list(formats.read(str(tmp_path / "out")))
    assert len(records) == 3
    assert all(set(record.labels or ()) <= set(record.tags or ()) for record in records)
    assert any(record.labels for record in records)
    (drawn,) = (tmp_path / "out" / "visualized").iterdir()
    own = load(specs["glip"]).draw(Image.open(IMAGES / records[0].image).convert("RGB"), records[0].detections)
    assert np.array_equal(np.asarray(Image.open(drawn)), np.asarray(own))


@pytest.mark.parametrize("text", ["{mark}\nmodel = dict(type='RetinaNet')\n", "_base_ = './base.py'\n"])
def test_a_config_that_does_not_ship_runs_only_where_it_is_trusted(tmp_path, text: str) -> None:
    mark = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    (tmp_path / "base.py").write_text(f"{mark}\nmodel = dict(type='RetinaNet')\n")
    (tmp_path / "config.py").write_text(text.format(mark=mark))
    spec = f"mmdet:{tmp_path / 'config.py'}:{tmp_path / 'w.pth'}"
    torch.save({"state_dict": {}}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"is Python code, .*`trust_config`"):
        load(spec, trust_config=False)
    with pytest.raises(UsageError, match=r"is Python code, .*`trust_config`"):
        load(spec, trust_config=False, trust_checkpoint=True)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(Exception):  # noqa: B017 - no whole model, but it was read
        load(spec)
    assert (tmp_path / "ran").exists()


def test_a_config_that_fails_is_said_in_one_line(tmp_path) -> None:
    torch.save({}, tmp_path / "w.pth")
    for text in ("1 / 0\n", "raise RuntimeError('no')\n", "from mmengine.config import read_base\n_base_ = 3\n"):
        (tmp_path / "config.py").write_text(text)
        with pytest.raises(UsageError, match="not a readable config"):
            load(f"mmdet:{tmp_path / 'config.py'}:{tmp_path / 'w.pth'}")


def test_shipped_configs_need_no_trust(tmp_path) -> None:
    """By name, and by the path of the shipped file itself; a file of the same name elsewhere is none of them."""
    name = "rtmdet_tiny_8xb32-300e_coco"
    torch.save({"state_dict": {}}, tmp_path / "w.pth")
    for config in (name, f"{name}.py", next(mmdetection._shipped().rglob(f"{name}.py"))):
        with pytest.raises(CheckpointError, match="lacks"):
            load(f"mmdet:{config}:{tmp_path / 'w.pth'}", trust_config=False)
    (tmp_path / f"{name}.py").write_text("1 / 0")
    with pytest.raises(UsageError, match="`trust_config`"):
        load(f"mmdet:{tmp_path / name}.py:{tmp_path / 'w.pth'}", trust_config=False)


def test_opencv_without_the_system_s_libraries_is_one_line_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(UsageError, match=r"pip install .*opencv-python-headless.*libGL"):
        mmdetection.load(f"rtmdet_tiny_8xb32-300e_coco:{tmp_path / 'x.pth'}", Settings(device="cpu"))


def test_the_overlap_of_a_model_s_own_suppression(specs, pictures) -> None:
    strict, lax = (load(specs["rtmdet"], iou=iou) for iou in (0.05, 0.95))
    assert strict.identity != lax.identity
    assert strict.detect(pictures[:1], None) != lax.detect(pictures[:1], None)
    with pytest.raises(UsageError, match="suppresses no boxes itself"):
        load(specs["grounding-dino"], iou=0.5)
