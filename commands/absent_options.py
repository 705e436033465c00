"""Options that one command has and another has not, with what to do there instead."""

from __future__ import annotations

from collections.abc import Mapping

_RANKS = ("--rank", "--world-size")
_ACTORS = ("--num-actors", "--gpus-per-actor", "--cpus-per-actor", "--ray-runtime-env")
_CLUSTER = ("--engine", "--ray-address", *_ACTORS)
_ONE = "runs on one machine"


def _same(text: str, *options: str) -> Mapping[str, str]:
    return dict.fromkeys(options, text)


_INSTEAD: Mapping[str, Mapping[str, str]] = {
    "import": _same(
        f"{_ONE}, as fast as its disk: import once, into a folder that all machines see", *_CLUSTER, *_RANKS
    ),
    "eval": _same(f"{_ONE}: a million answers take less time than it takes to share them out", *_CLUSTER, *_RANKS),
    "train": _same("is spread by torchrun: examples/training/README.md says how", *_CLUSTER, *_RANKS),
    "pack": {
        **_same("has no ranks: --engine ray packs on many machines", *_RANKS),
        "--gpus-per-actor": "needs no GPU: --cpus-per-actor says how large an actor is",
    },
    "table": _same("has it in its TOML, under infer and detect", *_ACTORS, *_RANKS),
}


def instead_of(command: str, option: str) -> str:
    """What a command says of an option of many machines that it does not have; empty for another option.

    >>> instead_of("train", "--engine"), instead_of("train", "--no-such")
    ('train is spread by torchrun: examples/training/README.md says how', '')
    """
    text = _INSTEAD.get(command, {}).get(option, "")
    return f"{command} {text}" if text else ""
