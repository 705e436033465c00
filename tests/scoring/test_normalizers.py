"""The official normalisers, oddity by oddity."""

from __future__ import annotations

import pytest

from mgtool.scoring import normalizers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red/blue", "red blue"),  # a mark between letters becomes a space
        ("red /blue", "red blue"),  # one that touches a space is dropped, everywhere in the text
        ("a/b /c", "ab c"),  # ... so that the first one is dropped as well
        ("1,000", "1000"),  # digit, comma, digit: all marks are dropped
        ("1,000-year", "1000year"),  # ... the hyphen too
        ("no.", "no"),  # a period that no digit follows goes
        ("3.5", "3.5"),
        ("3. 5", "3 5"),  # the misspelt look-behind lets a period after a digit go
        ("it's", "it's"),  # the apostrophe is no mark
    ],
)
def test_punctuation(text: str, expected: str) -> None:
    assert normalizers.punctuation(text) == expected


def test_no_more_than_32_periods_go() -> None:
    # re.UNICODE, which is 32, stands where the count belongs
    assert normalizers.punctuation("a." * 40) == "a" * 32 + "a." * 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("None", "0"),
        ("Ten", "10"),
        ("eleven", "eleven"),
        ("the a an", ""),
        ("dont", "don't"),
        ("somebody'd", "somebodyd"),  # the table's own slip
        ("ive", "ive"),  # the table has Ive, but the text is lower case by then
        ("weve", "we've"),
    ],
)
def test_digits_articles_contractions(text: str, expected: str) -> None:
    assert normalizers.digits_and_articles(text) == expected


def test_m4c_tokenises_first() -> None:
    assert normalizers.m4c("Bob's, dog?") == "bob 's dog"
    assert normalizers.m4c("1,000-year") == "1000 year"  # the comma is gone before punctuation is looked at


def test_soft_accuracy_leaves_one_annotator_out() -> None:
    # 3 of 10 agree: for the three themselves 2/3, for the seven others 1 -> (3 * 2/3 + 7) / 10 = 0.9
    assert normalizers.soft_accuracy("red", ["red"] * 3 + ["blue"] * 7) == pytest.approx(0.9)
    assert normalizers.soft_accuracy("red", ["red"] * 4 + ["blue"] * 6) == 1.0
    assert normalizers.soft_accuracy("green", ["red"] * 10) == 0.0
