"""Whole files of every kind that mgtool reads, small."""

from __future__ import annotations

import functools
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from mutations import tar_of
from PIL import Image

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
BOX = {
    "image": "a.jpg",
    "sha256": "0" * 64,
    "width": 64,
    "height": 48,
    "boxes": [[1, 2, 30, 40.5]],
    "scores": [0.5],
    "labels": ["cat"],
}
FRAMES = [{"index": 0, "time": 0.0, "boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": ["cat"]}]
VIDEO = {"video": "a.mp4", "sha256": "1" * 64, "width": 64, "height": 48, "frames": FRAMES}
LLAVA = [{"id": n, "image": f"{n}.jpg", "conversations": TURNS, "weight": 1.5} for n in range(3)]
QUESTIONS = [{"question_id": n, "image": f"{n}.jpg", "text": "What?", "category": "conv"} for n in range(3)]
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "caption": "x"}
    ],
    "categories": [{"id": 3, "name": "cat"}],
}
PUBLISHED = [{"id": 7, "boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": ["cat"]}]
RESULTS = [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]
VQA = {
    "questions": [{"question_id": 1, "image_id": 2, "question": "What?"}],
    "annotations": [
        {
            "question_id": 1,
            "image_id": 2,
            "answers": [{"answer": "a"}] * 10,
            "multiple_choice_answer": "a",
            "question_type": "what",
            "answer_type": "other",
        }
    ],
}
ANSWERS = [
    {"question_id": n, "prompt": "Q", "text": "yes", "model_id": "m", "metadata": {"sample": 0}} for n in range(3)
]
TSV = "index\timage\tquestion\tA\tB\tanswer\tcategory\n" + "".join(
    f"{n}\t{'/9j/' * 40 if n == 0 else 0}\tWhat?\tx\ty\tA\tcat\n" for n in range(3)
)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def lines(values: list[Any]) -> bytes:
    return b"".join(dumped(value) + b"\n" for value in values)


@functools.cache
def pictures() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    noise[10:30] = (200, 30, 60)
    rgb, grey16 = Image.fromarray(noise), Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    several = {"save_all": True, "append_images": [rgb.quantize(8)]}
    made: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "JPEG", {"exif": exif}),
        (rgb, "JPEG", {"progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "PNG", {}),
        (grey16, "PNG", {}),
        (rgb.quantize(16), "PNG", {"transparency": 0}),
        (rgb.convert("1"), "PNG", {}),
        (rgb.quantize(16), "GIF", several),
        (rgb, "BMP", {}),
        (rgb, "PPM", {}),
        (rgb, "WEBP", {}),
        (rgb, "WEBP", {"lossless": True}),
        (rgb, "TIFF", {"compression": "tiff_lzw"}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (grey16, "TIFF", {}),
        (rgb.convert("F"), "TIFF", {}),
        (rgb, "JPEG2000", {}),
        (rgb, "AVIF", {}),
    ]
    return {f"{n}.{kind}": _saved(picture, kind, options) for n, (picture, kind, options) in enumerate(made)}


def _saved(picture: Image.Image, format: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def videos() -> dict[str, bytes]:
    import av

    found = {}
    for container, codec in (("mp4", "libx264"), ("matroska", "mpeg4"), ("avi", "mjpeg"), ("webm", "libvpx")):
        file = io.BytesIO()
        with av.open(file, "w", format=container) as out:
            stream = out.add_stream(codec, rate=5)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for n in range(6):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * n, np.uint8), format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        found[container] = file.getvalue()
    return found


@functools.cache
def tars() -> dict[str, bytes]:
    packed = {
        "0.jpg": pictures()["0.JPEG"],
        "0.json": dumped({"id": 0, "image": "a.jpg", "conversations": TURNS, "width": 64, "height": 48}),
        "0.boxes.npy": _npy(np.float32([[1, 2, 30, 40]])),
        "0.boxes.json": dumped({"scores": [0.5], "labels": ["cat"]}),
        "1.mp4": b"not really",
        "1.json": dumped({"id": "b", "video": "b.mp4", "conversations": TURNS}),
        "a" * 120 + ".jpg": pictures()["3.PNG"],
        "2.txt": b"a caption",
        "2.cls": b"3",
    }
    small = {"x.jpg": pictures()["0.JPEG"], "x.json": dumped(LLAVA[0])}
    return {
        "pax": tar_of(packed),
        "gnu": tar_of(packed, format=tarfile.GNU_FORMAT),
        "ustar": tar_of(small, format=tarfile.USTAR_FORMAT),
        "gz": tar_of(small, mode="w:gz"),
        "bz2": tar_of(small, mode="w:bz2"),
        "xz": tar_of(small, mode="w:xz"),
    }


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet as files

    file = io.BytesIO()
    files.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def box_parquet(folder: Path) -> bytes:
    from mgtool.boxes import formats
    from mgtool.records import BoxRecord, convert

    record = convert(BOX, BoxRecord, where="seed")
    formats.write("parquet", folder, lambda: iter([record]), lambda: iter([(1, record)]))
    return next(folder.glob("*.parquet")).read_bytes()


def workbook() -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    for row in (
        ["index", "question", "A", "answer", "prediction"],
        [1, "What?", "x", "A", "A"],
        [2, None, 3.5, True, "B"],
    ):
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@functools.cache
def checkpoints() -> dict[str, bytes]:
    import torch
    from safetensors.torch import save

    weights = {"llm.a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(5, dtype=torch.int64)}
    found = {"x.safetensors": save(weights)}
    for name, content, new in (
        ("zip.pth", weights, True),
        ("old.pth", weights, False),
        ("nested.pt", {"state_dict": weights, "step": 3}, True),
        ("list.pth", [1, 2], True),
        ("half.bin", {"x": torch.ones(3, 3).half()[:, 1]}, True),
    ):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=new)
        found[name] = file.getvalue()
    return found
