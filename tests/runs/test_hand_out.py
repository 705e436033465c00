"""Units of work for real processes: who is free gets the next; a process that ends early is one line."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mgtool import errors
from mgtool.errors import CheckpointError, MgtoolError, MissingExtraError, UsageError
from mgtool.runs.hand_out import HandOut

Give = Callable[[Any], None]


class Numbers:
    """A supply of numbers.

    Attributes:
        taken: how many each process was given.
        is_open: whether there are any yet.
    """

    def __init__(self, units: Iterator[Any], processes: int) -> None:
        self.units, self.taken, self.is_open = units, [0] * processes, True

    def is_due(self, index: int) -> bool:
        return self.is_open

    def take(self, index: int) -> Any:
        unit = next(self.units, None)
        self.taken[index] += unit is not None
        return unit


def square(units: Iterator[int], give: Give) -> None:
    for unit in units:
        give((os.getpid(), unit * unit))


def wait_and_square(seconds: float, units: Iterator[int], give: Give) -> None:
    give("ready")
    for unit in units:
        time.sleep(seconds)
        give((os.getpid(), unit * unit))


def measure(units: Iterator[bytes], give: Give) -> None:
    for unit in units:
        give(unit[::-1])


def fail(error: Exception, units: Iterator[int], give: Give) -> None:
    next(units)
    give("begun")
    raise error


def kill_itself(number: int, units: Iterator[int], give: Give) -> None:
    next(units)
    os.kill(os.getpid(), number)


def results(hands: HandOut, supply: Numbers) -> list[Any]:
    found = []
    with hands:
        while not hands.is_over:
            found += [result for _, result in hands.exchange(supply)]
    return found


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_every_unit_is_done_once_by_whoever_is_free() -> None:
    slow, quick = functools.partial(wait_and_square, 0.4), functools.partial(wait_and_square, 0.02)
    supply = Numbers(iter(range(40)), 2)
    hands = HandOut([("slow", slow), ("quick", quick)])
    supply.is_open, ready = False, 0
    while ready < 2:
        ready += len(list(hands.exchange(supply)))
    supply.is_open = True
    found = results(hands, supply)
    assert sorted(value for _, value in found) == [n * n for n in range(40)]
    assert len({pid for pid, _ in found}) == 2
    assert supply.taken[1] > 2 * supply.taken[0] > 0
    assert not children()


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_process_has_a_bounded_number_of_units(ahead: int) -> None:
    supply = Numbers(iter(range(100)), 1)
    hands = HandOut([("one", square)], ahead=ahead)
    answered = 0
    with hands:
        while not hands.is_over:
            for _ in hands.exchange(supply):
                answered += 1
                assert supply.taken[0] <= answered + ahead
    assert answered == 100


def test_large_units_and_results_pass_each_other() -> None:
    """Both ends write more than a pipe holds while neither reads for a while."""
    units = [bytes([n]) * 3_000_000 for n in range(6)]
    assert sorted(results(HandOut([("one", measure)], ahead=3), Numbers(iter(units), 1))) == units


@pytest.mark.parametrize(
    "error", [UsageError("device", "cuda: there is none"), CheckpointError("no weights"), MissingExtraError("x", "ray")]
)
def test_what_a_process_finds_wrong_is_raised_as_it_was(error: MgtoolError) -> None:
    with pytest.raises(type(error)) as raised:
        results(HandOut([("one", functools.partial(fail, error)), ("two", square)]), Numbers(itertools.count(), 2))
    assert str(raised.value) == str(error)
    assert not children()


def test_a_defect_names_its_process() -> None:
    with pytest.raises(RuntimeError, match=r"^on one: KeyError: 'odd'$"):
        results(HandOut([("one", functools.partial(fail, KeyError("odd")))]), Numbers(itertools.count(), 1))


def test_a_result_that_cannot_be_sent_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match=r"on one: .*pickle"):
        results(HandOut([("one", unsendable)]), Numbers(itertools.count(), 1))


def unsendable(units: Iterator[int], give: Give) -> None:
    give(lambda: next(units))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "the process on one was killed: is memory short?"),
        (signal.SIGSEGV, "the process on one ended with exit code -11"),
    ],
)
def test_a_process_that_dies_is_one_line(number: int, message: str) -> None:
    works = [("one", functools.partial(kill_itself, number)), ("two", square)]
    with pytest.raises(MgtoolError) as raised:
        results(HandOut(works), Numbers(itertools.count(), 2))
    assert str(raised.value) == message
    assert not children()


def test_processes_end_with_what_holds_them() -> None:
    hands = HandOut([("one", square), ("two", square)])
    assert len(children()) == 2
    del hands
    assert not children()


HOLDS = """
import time
from mgtool.runs.hand_out import HandOut
from test_hand_out import Numbers, square
if __name__ == "__main__":
    hands = HandOut([("one", square), ("two", square)])
    list(hands.exchange(Numbers(iter(range(2)), 2)))
    print("ready", flush=True)
    {then}
"""


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_their_parent(number: int | None, tmp_path: Path) -> None:
    """Whether it comes to its end, is interrupted or killed."""
    script = tmp_path / "holds.py"
    script.write_text(HOLDS.format(then="time.sleep(60)" if number else "pass"))
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        started = psutil.Process(parent.pid).children(recursive=True)
        assert parent.stdout.readline() == "ready\n"
        started += psutil.Process(parent.pid).children(recursive=True) if number else []
        if number:
            parent.send_signal(number)
        _, stderr = parent.communicate(timeout=30)
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert stderr.count("Traceback") == (1 if number == signal.SIGINT else 0), stderr


@pytest.mark.parametrize(
    "error",
    [
        UsageError("out", "is missing"),
        MissingExtraError("`engine` ray", "ray"),
        errors.ItemError("missing", "no file"),
        errors.ResumeError("another run"),
    ],
)
def test_every_error_of_the_tree_crosses_processes(error: MgtoolError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), str(error))
