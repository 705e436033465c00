"""Errors and intervals against closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mgtool.errors import UsageError
from mgtool.evaluation.comparison import compare
from mgtool.evaluation.slices import box_bin, sliced
from mgtool.records import BoxRecord, Score
from mgtool.scoring.clusters import Bootstrap, Totals, codes, counted_sums, ratio
from mgtool.scoring.compact import TableRows
from mgtool.scoring.statistics import Statistic, clustered_mean, mean_of, p_value


def test_without_clusters_it_is_the_usual_standard_error() -> None:
    values = np.random.default_rng(0).normal(3, 2, 50)
    metric = clustered_mean(values, np.arange(50))
    assert metric.stderr == pytest.approx(stats.sem(values))
    assert metric.interval == pytest.approx(stats.t.interval(0.95, 49, values.mean(), stats.sem(values)))


def test_items_of_one_picture_count_as_one() -> None:
    # 20 pictures with five equal answers each: as much is known as from 20 answers
    pictures = np.random.default_rng(0).random(20)
    alike = clustered_mean(np.repeat(pictures, 5), np.repeat(np.arange(20), 5))
    assert alike.stderr == pytest.approx(stats.sem(pictures))


def test_one_cluster_has_no_error() -> None:
    metric = clustered_mean(np.array([0.0, 1.0]), np.array([0, 0]))
    assert (metric.value, metric.stderr, metric.interval) == (0.5, None, None)


def test_the_bootstrap_agrees_with_the_closed_form() -> None:
    values = np.random.default_rng(1).random(400)
    rows = np.column_stack([values, np.ones(400)])
    drawn = Statistic(rows, np.arange(400), lambda sums: ratio(sums[..., 0], sums[..., 1])).estimate()
    assert drawn.value == pytest.approx(100 * values.mean())
    assert drawn.stderr == pytest.approx(100 * stats.sem(values), rel=0.1)
    assert drawn.interval[0] < drawn.value < drawn.interval[1]


@pytest.mark.parametrize(
    ("right", "of", "cluster"), [(42, 43, 1), (0, 30, 1), (30, 30, 3), (1, 2, 1), (2, 3, 2), (595, 600, 6)]
)
def test_intervals_of_shares_lie_within_their_bounds(right: int, of: int, cluster: int) -> None:
    values = [1.0] * right + [0.0] * (of - right)
    metric = mean_of(values, [n // cluster for n in range(of)]).estimate()
    low, high = metric.interval
    assert 0 <= low <= metric.value <= high <= 100
    assert low < high


def test_of_single_items_it_is_wilsons_interval() -> None:
    found = mean_of([1.0] * 42 + [0.0], range(43)).estimate().interval
    wilson = stats.binomtest(42, 43).proportion_ci(method="wilson")
    assert found == pytest.approx((100 * wilson.low, 100 * wilson.high))


def test_clusters_that_agree_are_worth_few_items() -> None:
    values, groups = np.repeat(np.arange(40) % 2, 6).astype(float), np.repeat(np.arange(40), 6)
    low, high = mean_of(values.tolist(), groups.tolist()).estimate().interval
    wilson = stats.binomtest(20, 40).proportion_ci(method="wilson")
    assert high - low == pytest.approx(100 * (wilson.high - wilson.low), rel=0.1)


def test_shares_that_miss_1_by_a_rounding_count_as_1() -> None:
    metric = mean_of([1 - 2**-53, 1 - 2**-53, 1.0, 1.0], ["a", "a", "b", "b"]).estimate()
    whole = mean_of([1.0, 1.0, 1.0, 1.0], ["a", "a", "b", "b"]).estimate()
    assert whole.interval is not None
    assert metric.interval == pytest.approx(whole.interval)


def test_the_mean_of_what_is_no_share_is_resampled_within_its_values() -> None:
    metric = mean_of([0.0] * 9 + [8.0], range(10), scale=1.0).estimate()
    assert metric.interval[0] == 0
    assert mean_of([3.0, 8.0], [0, 0]).estimate().interval is None


def test_the_difference_of_shares_is_no_more_than_the_whole() -> None:
    first, second = scores([0.0, 0.0, 1.0]), scores([1.0, 1.0, 1.0])
    both = tuple({"accuracy": mean_of([s.score for s in run], range(3))} for run in (first, second))
    low, high = compare(first, second, both, []).metrics["accuracy"].interval
    assert -100 < low < 200 / 3 < high < 100


def test_no_items_no_number() -> None:
    metric = mean_of([], []).estimate()
    assert (metric.value, metric.stderr, metric.n) == (None, None, 0)


def test_rounding_touches_the_value_alone() -> None:
    number = Statistic(np.array([[1.0], [0.0], [0.0]]), codes([1, 2, 3]), decimals=2).estimate()
    assert number.value == 33.33
    assert number.stderr == pytest.approx(100 / 3)


def scores(values: list[float], **more: object) -> list[Score]:
    return [
        Score(
            question_id=n,
            prediction="a " * n,
            extracted=None,
            target=None,
            score=value,
            group=str(n),
            image=f"{n}.jpg",
            **more,
        )
        for n, value in enumerate(values)
    ]


def test_paired_difference_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.random(60), rng.random(60)
    a, b = scores(first.tolist()), scores(second.tolist())
    both = ({"accuracy": mean_of(first.tolist(), range(60))}, {"accuracy": mean_of(second.tolist(), range(60))})
    difference = compare(a, b, both, []).metrics["accuracy"]
    expected = stats.ttest_rel(second, first)
    assert difference.difference == pytest.approx(100 * (second - first).mean())
    assert difference.p_value == pytest.approx(expected.pvalue)
    assert difference.interval == pytest.approx([100 * end for end in expected.confidence_interval(0.95)])


def test_equal_runs_do_not_differ() -> None:
    values = [0.0, 1.0, 1.0]
    numbers = {"accuracy": mean_of(values, range(3))}
    comparison = compare(scores(values), scores(values), (numbers, numbers), [])
    assert comparison.metrics["accuracy"].difference == 0
    assert comparison.metrics["accuracy"].p_value is None
    assert comparison.flips == []


def test_flips_and_breakdown() -> None:
    first = scores([0, 1, 0, 1], fields={"category": "x"})
    second = scores([1, 0, 0, 1], fields={"category": "x"})
    comparison = compare(first, second, ({}, {}), ["category"])
    assert (comparison.fixed, comparison.broken) == (1, 1)
    assert [flip.question_id for flip in comparison.flips] == [0, 1]
    assert comparison.breakdown["category"]["x"].difference == 0


def test_a_resampled_difference_draws_the_same_pictures_for_both() -> None:
    # the same run twice: every draw differs by exactly 0, however wide each alone
    rows = np.column_stack([np.random.default_rng(0).random(30), np.ones(30)])
    number = Statistic(rows, np.arange(30), lambda sums: ratio(sums[..., 0], sums[..., 1]))
    comparison = compare([], [], ({"f1": number}, {"f1": number}), [])
    assert comparison.metrics["f1"].interval == (0, 0)


def test_numbers_over_other_items_are_not_paired() -> None:
    # the same two values, but of items 0 and 1 in one run, and of 1 and 2 in the other
    first, second = (mean_of([0.0, 1.0], range(2), ids=ids) for ids in ((0, 1), (1, 2)))
    difference = compare([], [], ({"score": first}, {"score": second}), []).metrics["score"]
    assert (difference.difference, difference.stderr) == (0, pytest.approx(50 * 2**0.5))
    shorter = mean_of([1.0], [0], ids=[1])
    difference = compare([], [], ({"score": first}, {"score": shorter}), []).metrics["score"]
    assert (difference.difference, difference.stderr) == (50, None)


def test_p_value_of_a_clear_difference() -> None:
    assert p_value(10.0, 1.0, 100) < 1e-6
    assert p_value(0.0, 1.0, 100) == 1


def record(*sizes: float) -> BoxRecord:
    boxes = tuple((0.0, 0.0, size, size) for size in sizes)
    names = tuple("x" for _ in sizes)
    return BoxRecord(sha256="", width=9, height=9, boxes=boxes, scores=tuple(1.0 for _ in sizes), labels=names)


@pytest.mark.parametrize(
    ("count", "name"),
    [
        (0, "0"),
        (1, "1-10"),
        (10, "1-10"),
        (11, "11-20"),
        (20, "11-20"),
        (30, "21-30"),
        (31, "31-50"),
        (50, "31-50"),
        (51, ">50"),
    ],
)
def test_bins_of_the_paper(count: int, name: str) -> None:
    assert box_bin(record(*[5.0] * count)) == name


def test_slices() -> None:
    boxes = {"0.jpg": record(), "1.jpg": record(10), "2.jpg": record(10, 50), "3.jpg": record(200)}
    found = sliced(scores([1, 0, 1, 0], fields={"kind": "a"}), ["kind"], boxes)
    assert {name: metric.value for name, metric in found["boxes"].items()} == {"0": 100, "1-10": pytest.approx(100 / 3)}
    assert {name: metric.n for name, metric in found["largest_box"].items()} == {
        "no box": 1,
        "small (< 32² px)": 1,
        "medium (< 96² px)": 1,
        "large": 1,
    }
    assert found["smallest_box"]["small (< 32² px)"].n == 2
    assert list(found["answer_words"]) == ["0", "1", "2-3"]
    assert found["kind"]["a"].n == 4
    assert "kind" not in sliced(scores([1, 0], fields={"kind": "a"}), [], boxes)
    with pytest.raises(UsageError, match="`slices` colour: no item has this field; there are: kind"):
        sliced(scores([1], fields={"kind": "a"}), ["colour"])


def test_right_and_wrong_are_compared_by_mcnemars_exact_test() -> None:
    before, after = [0.0] * 9 + [1.0] * 11, [1.0] * 8 + [0.0] + [0.0] + [1.0] * 10
    both = tuple({"accuracy": mean_of(run, range(20))} for run in (before, after))
    comparison = compare(scores(before), scores(after), both, [])
    difference = comparison.metrics["accuracy"]
    assert (comparison.fixed, comparison.broken, difference.test) == (8, 1, "McNemar")
    assert difference.p_value == pytest.approx(stats.binomtest(8, 9).pvalue)
    # two of a picture are less than two
    pictures = tuple({"accuracy": mean_of(run, np.arange(20) // 2)} for run in (before, after))
    clustered = compare(scores(before), scores(after), pictures, []).metrics["accuracy"]
    assert clustered.test == "clustered McNemar"
    assert clustered.interval[1] - clustered.interval[0] > difference.interval[1] - difference.interval[0]


def test_as_many_items_as_needed_show_the_difference() -> None:
    rng = np.random.default_rng(5)
    before, after = (rng.random(200) < 0.5).astype(float), (rng.random(200) < 0.6).astype(float)
    both = tuple({"accuracy": mean_of(run.tolist(), range(200))} for run in (before, after))
    difference = compare(scores(before.tolist()), scores(after.tolist()), both, []).metrics["accuracy"]
    change = after - before
    effect = abs(change.mean()) / change.std(ddof=1)
    # the sample size of a paired test: ((z_0.975 + z_0.8) / effect)²
    expected = ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / effect) ** 2
    assert difference.needed == pytest.approx(expected, abs=1)
    assert compare(scores([1.0] * 3), scores([1.0] * 3), ({}, {}), []).metrics == {}


def test_counts_are_drawn_as_the_same_rows_in_full() -> None:
    draw = np.random.default_rng(3)
    groups = codes(np.sort(draw.integers(0, 700, 5000)).tolist())
    rows = TableRows(draw.integers(0, 12, 5000).astype(np.uint8), draw.integers(0, 3, (12, 4)).astype(np.uint8))
    found, expected = Totals(rows, groups), Totals(np.asarray(rows, np.float64), groups)
    assert counted_sums(rows, groups) is not None
    assert np.array_equal(found.all, expected.all)
    assert np.array_equal(found.drawn, expected.drawn)


def test_numbers_of_the_same_rows_are_drawn_once() -> None:
    groups, rows, bootstrap = np.arange(6), np.eye(6), Bootstrap()
    assert bootstrap.totals(rows, groups) is bootstrap.totals(rows, groups)
    assert bootstrap.totals(rows, groups.copy()) is not bootstrap.totals(rows, groups)
