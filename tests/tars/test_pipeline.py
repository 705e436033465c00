"""`TarDataset` is the first stage of a pipeline of webdataset."""

from __future__ import annotations

from pathlib import Path

import webdataset

import mgtool

PHOTOS = Path(__file__).parents[2] / "examples/photos"


def _id(sample: mgtool.Sample) -> str:
    return str(sample.id)


def test_stages_of_webdataset_follow_the_samples(tmp_path: Path) -> None:
    mgtool.pack([mgtool.Source(str(PHOTOS / "images"))], tmp_path / "tars", mgtool.PackOptions(workers=1))
    ids = [str(sample.id) for sample in mgtool.open_tars(tmp_path / "tars")]
    dataset = mgtool.TarDataset(tmp_path / "tars", _id, seed=None)
    pipeline = dataset.pipeline(webdataset.map(str.upper), webdataset.batched(3, collation_fn=list))
    assert [one for batch in pipeline for one in batch] == [name.upper() for name in ids]
    loader = webdataset.WebLoader(dataset.pipeline(), batch_size=None, num_workers=2)
    assert sorted(loader) == sorted(ids)
