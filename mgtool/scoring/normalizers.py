"""The official normalisers of short answers, with their oddities kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_DROPPED_OR_SPACED = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_BETWEEN_DIGITS = re.compile(r"(\d)(\,)(\d)")
# `(?!<=` is a slip in the official pattern for `(?<!`: it removes every period that no digit follows.
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_PERIOD_ALONE = re.compile(r"(?<!\d)\.(?!\d)")
# The official code passes the flag re.UNICODE where `re.sub` takes its count.
_MOST_PERIODS = int(re.UNICODE)
_ARTICLES = frozenset({"a", "an", "the"})
_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(number) for number, word in enumerate(_WORDS.split())} | {"none": "0"}
_RESTORED = """
aint>ain't arent>aren't cant>can't couldve>could've couldnt>couldn't couldn'tve>couldn't've couldnt've>couldn't've
didnt>didn't doesnt>doesn't dont>don't hadnt>hadn't hadnt've>hadn't've hadn'tve>hadn't've hasnt>hasn't
havent>haven't hed>he'd hed've>he'd've he'dve>he'd've hes>he's howd>how'd howll>how'll hows>how's Id've>I'd've
I'dve>I'd've Im>I'm Ive>I've isnt>isn't itd>it'd itd've>it'd've it'dve>it'd've itll>it'll let's>let's maam>ma'am
mightnt>mightn't mightnt've>mightn't've mightn'tve>mightn't've mightve>might've mustnt>mustn't mustve>must've
neednt>needn't notve>not've oclock>o'clock oughtnt>oughtn't ow's'at>'ow's'at 'ows'at>'ow's'at 'ow'sat>'ow's'at
shant>shan't shed've>she'd've she'dve>she'd've she's>she's shouldve>should've shouldnt>shouldn't
shouldnt've>shouldn't've shouldn'tve>shouldn't've somebody'd>somebodyd somebodyd've>somebody'd've
somebody'dve>somebody'd've somebodyll>somebody'll somebodys>somebody's someoned>someone'd someoned've>someone'd've
someone'dve>someone'd've someonell>someone'll someones>someone's somethingd>something'd somethingd've>something'd've
something'dve>something'd've somethingll>something'll thats>that's thered>there'd thered've>there'd've
there'dve>there'd've therere>there're theres>there's theyd>they'd theyd've>they'd've they'dve>they'd've
theyll>they'll theyre>they're theyve>they've twas>'twas wasnt>wasn't wed've>we'd've we'dve>we'd've weve>we've
werent>weren't whatll>what'll whatre>what're whats>what's whatve>what've whens>when's whered>where'd wheres>where's
whereve>where've whod>who'd whod've>who'd've who'dve>who'd've wholl>who'll whos>who's whove>who've whyll>why'll
whyre>why're whys>why's wont>won't wouldve>would've wouldnt>wouldn't wouldnt've>wouldn't've wouldn'tve>wouldn't've
yall>y'all yall'll>y'all'll y'allll>y'all'll yall'd've>y'all'd've y'alld've>y'all'd've y'all'dve>y'all'd've
youd>you'd youd've>you'd've you'dve>you'd've youll>you'll youre>you're youve>you've
"""
_CONTRACTIONS = dict(pair.split(">") for pair in _RESTORED.split())
_STRAIGHT_IN_VIZWIZ = frozenset({"ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've"})
_STRAIGHT_SHORT_IN_VIZWIZ = frozenset({"couldn'tve", "hadn'tve"})
_TYPOGRAPHIC = str.maketrans("'", "\N{RIGHT SINGLE QUOTATION MARK}")
_VIZWIZ_CONTRACTIONS = {
    short if short in _STRAIGHT_SHORT_IN_VIZWIZ else short.translate(_TYPOGRAPHIC): word
    if word in _STRAIGHT_IN_VIZWIZ
    else word.translate(_TYPOGRAPHIC)
    for short, word in _CONTRACTIONS.items()
}
"""VizWiz's script has the table with typographic apostrophes, but in a few words."""


@lru_cache(maxsize=1 << 16)
def flat(text: str) -> str:
    """Line feeds and tabs to spaces, ends stripped: what the VQA script does to every answer.

    >>> flat(" a\\tred\\n")
    'a red'
    """
    return text.replace("\n", " ").replace("\t", " ").strip()


def punctuation(text: str) -> str:
    """Drop or space punctuation as the VQA script does.

    A mark is dropped where it touches a space anywhere in the text, or when the text holds digit,comma,digit;
    otherwise every one becomes a space.

    >>> punctuation("red/blue"), punctuation("red / blue"), punctuation("1,000-2,000"), punctuation("ave. 3.5")
    ('red blue', 'red  blue', '10002000', 'ave 3.5')
    """
    result = _marks(text)
    return _PERIOD.sub("", result, count=_MOST_PERIODS) if "." in result else result


def _marks(text: str) -> str:
    thousands = _COMMA_BETWEEN_DIGITS.search(text) is not None
    result = text
    for mark in _DROPPED_OR_SPACED:
        if mark in text:
            dropped = thousands or mark + " " in text or " " + mark in text
            result = result.replace(mark, "" if dropped else " ")
    return result


def vlmevalkit(text: str) -> str:
    """An answer, flat already, as VLMEvalKit compares it: a period goes only where no digit is on either side.

    >>> vlmevalkit("10."), vlmevalkit("red.")
    ('10.', 'red')
    """
    return digits_and_articles(_vlmevalkit_punctuation(text))


def _vlmevalkit_punctuation(text: str) -> str:
    return _PERIOD_ALONE.sub("", _marks(text), count=_MOST_PERIODS)


def digits_and_articles(text: str) -> str:
    """Lower case, number words to digits, articles dropped, contractions restored.

    >>> digits_and_articles("The two dogs dont bark"), digits_and_articles("somebody'd")
    ("2 dogs don't bark", 'somebodyd')
    """
    return _words(text, _CONTRACTIONS)


def _words(text: str, contractions: Mapping[str, str]) -> str:
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(contractions.get(word, word) for word in words if word not in _ARTICLES)


@lru_cache(maxsize=1 << 16)
def vqa(text: str) -> str:
    """An answer, flat already, as the VQA script compares it.

    >>> vqa("Yes, it is."), vqa("none")
    ('yes it is', '0')
    """
    return digits_and_articles(punctuation(text))


@lru_cache(maxsize=1 << 16)
def vizwiz(text: str) -> str:
    """An answer, flat already, as VizWiz's script compares it.

    >>> vizwiz("cant see"), vizwiz("dont") == "don't"
    ("can't see", False)
    """
    return _words(punctuation(text), _VIZWIZ_CONTRACTIONS)


@lru_cache(maxsize=1 << 16)
def m4c(text: str) -> str:
    """An answer as the M4C processor of TextVQA and of the EvalAI submissions compares it.

    >>> m4c("What's that, a Dog?"), m4c("1,000")
    ("what 's that dog", '1000')
    """
    tokens = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return vqa(flat(tokens))


def soft_accuracy(prediction: str, answers: list[str]) -> float:
    """Mean over the annotators of min(1, matches among the others / 3).

    >>> round(soft_accuracy("red", ["red"] * 2 + ["blue"] * 8), 2)
    0.6
    """
    matches = answers.count(prediction)
    if not matches:
        return 0.0
    own, others = min(1.0, (matches - 1) / 3), min(1.0, matches / 3)
    accuracies = [own if answer == prediction else others for answer in answers]
    return sum(accuracies) / len(accuracies)


def yes_or_no(text: str) -> str | None:
    """VLMEvalKit's reading of an answer: exactly one of the two words, else nothing.

    >>> yes_or_no("Yes."), yes_or_no("yes or no"), yes_or_no("nothing")
    ('yes', None, None)
    """
    words = _vlmevalkit_punctuation(text.lower()).split()
    yes, no = "yes" in words, "no" in words
    return None if yes == no else "yes" if yes else "no"
