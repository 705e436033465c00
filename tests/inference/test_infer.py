"""`infer` and its stream from Python: what the command line does, typed."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path

import pytest

from mgtool.errors import OutputError, UsageError
from mgtool.files.journal import Journal
from mgtool.inference.native_model import NativeModel
from mgtool.inference.options import InferOptions
from mgtool.records import Answer, Failure, dumps
from mgtool.stages import infer as stage

PHOTOS = Path(__file__).parent.parent / "images"


@pytest.fixture
def questions(write) -> Path:
    """Twelve questions about two pictures, one of which is not there."""
    records = [{"question_id": n, "image": "coffee.jpg", "text": f"What is {n}?"} for n in range(12)]
    records[5]["image"] = "gone.jpg"
    return write("q.jsonl", records)


@pytest.fixture
def options(models) -> InferOptions:
    return InferOptions(
        model=models["vicuna"], images=PHOTOS, boxes="off", max_new_tokens=4, device="cpu", batch_size=2
    )


def test_a_stream_has_the_records_of_the_files(questions, options, tmp_path):
    done, counted = [], []
    made = stage.infer([questions], tmp_path / "a" / "answers.jsonl", options, advance=done.append)
    assert (made.answered, made.failed, sum(done)) == (11, 1, 12)
    assert made.new_tokens > 11
    found = list(stage.answers([questions], options, advance=counted.append))
    assert [getattr(one, "question_id", None) for one in found] == [n if n != 5 else None for n in range(12)]
    assert sum(counted) == 12
    lines = {kind: b"".join(dumps(one) + b"\n" for one in found if isinstance(one, kind)) for kind in (Answer, Failure)}
    assert (lines[Answer], lines[Failure]) == (made.out.read_bytes(), made.failures.read_bytes())
    two = dataclasses.replace(options, device="cpu,cpu")
    assert list(stage.answers(questions, two)) == list(stage.answers(str(questions), options)) == found
    again = stage.infer([str(questions)], str(made.out), options)
    assert again == made


def test_a_stream_that_is_closed_decodes_no_more(questions, options, monkeypatch):
    steps = []
    splice = NativeModel.splice
    monkeypatch.setattr(NativeModel, "splice", lambda *given: steps.append(1) or splice(*given))
    with closing(stage.answers([questions], options)) as stream:
        assert next(stream).question_id == 0
    begun = len(steps)
    assert begun > 0
    assert list(stream) == []
    assert len(steps) == begun
    list(stage.answers([questions], options))
    assert len(steps) > 2 * begun


def test_answers_of_earlier_runs_stream_without_a_model(questions, options, tmp_path, monkeypatch):
    cached = dataclasses.replace(options, cache=tmp_path / "cache")
    first = list(stage.answers([questions], cached))
    monkeypatch.setattr("mgtool.inference.pipeline.load_model", lambda plan: pytest.fail("the model was loaded"))
    monkeypatch.setattr("mgtool.inference.grouping.WINDOW", 3)
    taken = []
    read = stage.sources.read_samples
    monkeypatch.setattr(
        stage.sources, "read_samples", lambda *a, **k: (taken.append(1) or one for one in read(*a, **k))
    )
    assert list(stage.answers([questions], cached)) == first
    assert len(taken) == 12


def test_a_result_shows_itself_in_a_notebook():
    made = stage.Inferred(Path("a<b>.jsonl"), 3, 1, 40, Path("failures.jsonl"))
    assert "a&lt;b&gt;.jsonl" in made._repr_html_()


def test_strings_and_paths_are_taken_for_each_other():
    given = InferOptions(model="tiny", cache="cache", images=Path("photos"))
    assert (given.cache, given.images) == (Path("cache"), "photos")
    assert (given.model / "config.json").is_file()
    assert InferOptions(model="./tiny").model == Path("tiny")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"choices": "A,B", "yes_no": True}, "yes_no"),
        ({"device": "cuda:0,cuda:1", "tensor_parallel": 2}, "device"),
        ({"quantize": "4bit", "device_map": "auto"}, "quantize"),
        ({"device_map": "balanced"}, "device_map"),
    ],
)
def test_options_that_do_not_go_together_name_their_fields(given, field):
    with pytest.raises(UsageError, match=f"`{field}`"):
        InferOptions(model="tiny", **given)


def test_a_stream_is_of_one_run(options):
    for other in ({"engine": "ray"}, {"world_size": 2}):
        with pytest.raises(UsageError, match="on disk"):
            stage.answers(["q.jsonl"], dataclasses.replace(options, **other))


def test_a_disk_that_is_full_at_once_binds_nothing(questions, options, tmp_path, monkeypatch):
    out = tmp_path / "out" / "answers.jsonl"

    def refuse(journal, record):
        journal.path.write_bytes(b'{"question_id"')
        raise OutputError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", refuse)
        with pytest.raises(OutputError, match="no space"):
            stage.infer([questions], out, options)
    assert not out.parent.exists()
    assert stage.infer([questions], out, options).answered == 11


def test_a_limit_of_pixels_makes_larger_pictures_failures(write, options):
    names = ("coffee.jpg", "astronaut_portrait.jpg")
    questions = write("q.jsonl", [{"question_id": n, "image": name, "text": "Q"} for n, name in enumerate(names)])
    for workers in (0, 1):
        small = dataclasses.replace(options, max_pixels=360 * 512, workers=workers)
        large, answered = stage.answers([questions], small)
        assert (large.id, large.reason) == (0, "too_many_pixels")
        assert answered.question_id == 1
    with pytest.raises(UsageError, match="max_pixels"):
        dataclasses.replace(options, max_pixels=0)
