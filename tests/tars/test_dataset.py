"""`mgtool.TarDataset`: every sample once in an epoch, whatever the ranks and workers; goes on; feeds the model."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import mgtool
from mgtool.errors import InputError
from mgtool.records import Failure, Sample

KIT = Path(__file__).parents[1] / "conformance" / "mg_llava"


def own_id(sample: Sample) -> Any:
    return sample.id


def load(folder: Path, workers: int = 0, epoch: int = 0, start: int = 0, **options: Any) -> list[Any]:
    dataset = mgtool.TarDataset(folder, own_id, **options)
    dataset.set_epoch(epoch, start)
    loader = DataLoader(dataset, batch_size=options.get("batch_size", 1), num_workers=workers, collate_fn=list)
    return [one for batch in loader for one in batch]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 3), (3, 0), (13, 0), (3, 4)])
def test_every_sample_once_with_more_ranks_and_workers_than_tars(tars_of_given: Path, ranks: int, workers: int) -> None:
    shares = [load(tars_of_given, workers, rank=rank, world_size=ranks) for rank in range(min(ranks, 5))]
    shares += [load(tars_of_given, 0, rank=rank, world_size=ranks) for rank in range(5, ranks)]
    assert sorted(one for share in shares for one in share) == list(range(11))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_do_not_change_the_stream(tars_of_given: Path) -> None:
    alone = load(tars_of_given, 0, batch_size=2)
    assert load(tars_of_given, 1, batch_size=2) == alone
    assert load(tars_of_given, 3, batch_size=2) == alone


def _unchanged(dataset: Any) -> Any:
    return dataset


def _pickled(dataset: Any) -> Any:
    return pickle.loads(pickle.dumps(dataset))


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("of", [_unchanged, _pickled, copy.deepcopy], ids=["itself", "pickled", "copied"])
def test_workers_that_live_on_learn_of_the_next_epoch(
    tars_of_given: Path, start_method: str, of: Callable[[Any], Any]
) -> None:
    dataset = of(mgtool.TarDataset(tars_of_given, own_id, batch_size=2))
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=1,
        collate_fn=list,
        persistent_workers=True,
        multiprocessing_context=start_method,
    )
    for epoch, start in ((0, 0), (1, 0), (2, 4)):
        dataset.set_epoch(epoch, start)
        assert (dataset.epoch, dataset.start, len(dataset)) == (epoch, start, 11 - start)
        given = [one for batch in loader for one in batch]
        assert given == load(tars_of_given, epoch=epoch, start=start)


def test_order_depends_on_seed_and_epoch_alone(tars_of_given: Path) -> None:
    orders = [load(tars_of_given, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert load(tars_of_given, seed=0, epoch=1) == orders[1]
    assert load(tars_of_given, seed=None, epoch=1) == list(range(11))


def test_an_epoch_goes_on_with_another_number_of_ranks(tars_of_given: Path) -> None:
    whole = load(tars_of_given)
    first = [load(tars_of_given, rank=rank, world_size=2, batch_size=2)[:2] for rank in range(2)]
    assert sorted(first[0] + first[1]) == sorted(whole[:4])
    rest = [load(tars_of_given, start=4, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(one for share in rest for one in share) == sorted(whole[4:])


def test_even_ranks_have_equally_many(tars_of_given: Path) -> None:
    shares = [load(tars_of_given, rank=rank, world_size=4, even=True) for rank in range(4)]
    assert [len(share) for share in shares] == [2, 2, 2, 2]
    assert len({one for share in shares for one in share}) == 8
    assert len(mgtool.TarDataset(tars_of_given, own_id, rank=3, world_size=4)) == 2


def test_ranks_come_from_the_environment(tars_of_given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert load(tars_of_given, seed=None) == [1, 3, 5, 7, 9]


def test_a_sample_that_cannot_be_read_raises_or_is_told(tars_of_given: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tars"
    shutil.copytree(tars_of_given, folder)
    with tarfile.open(folder / "shard-000003.tar", "w") as tar:
        info = tarfile.TarInfo("000000099.json")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"{"))
    with pytest.raises(InputError, match=r"shard-000003\.tar: 000000099: bad_record"):
        load(folder)
    told: list[Failure] = []
    assert sorted(load(folder, on_failure=told.append)) == list(range(11))
    assert [failure.id for failure in told] == ["000000099"]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import parts_in

    from mgtool.stages.import_model import import_model

    out = tmp_path_factory.mktemp("model") / "model"
    import_model(parts_in(KIT), out)
    return out


def test_it_feeds_the_model(tars_of_given: Path, model_dir: Path) -> None:
    """The same loss from the tars as from the samples directly, texts without a picture among them."""
    from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
    from mgtool.training.examples import collate, to_example

    processor = MGLlavaProcessor.from_pretrained(model_dir)
    model = MGLlavaForConditionalGeneration.from_pretrained(model_dir).eval()
    make: Callable[[Sample], Any] = functools.partial(to_example, processor=processor, max_length=256)
    dataset = mgtool.TarDataset(tars_of_given, make, seed=None, batch_size=4)
    joined = functools.partial(collate, processor=processor)
    batches = list(DataLoader(dataset, batch_size=4, collate_fn=joined))
    assert [len(batch["input_ids"]) for batch in batches] == [4, 4, 3]
    assert [len(batch["pixel_values"]) for batch in batches] == [4, 5, 2]
    with torch.no_grad():
        loss = model(**batches[2]).loss
        direct = model(**joined([make(sample) for sample in list(mgtool.open_tars(tars_of_given))[8:]])).loss
    assert torch.isfinite(loss)
    assert loss == direct
