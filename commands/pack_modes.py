"""What `mgtool pack` does beside packing, and what it shows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mgtool.commands import console, summaries
from mgtool.commands.exit_codes import exit_code
from mgtool.errors import UsageError
from mgtool.packing.options import Check, PackOptions, Source
from mgtool.tars.verify_options import Readers


class Screen(NamedTuple):
    """What the person at the command line wants to see, and what they put up with."""

    quiet: bool
    as_json: bool
    allow_failures: str
    strict: bool = False

    @contextlib.contextmanager
    def progress(self, what: str, *, streams: bool = False) -> Iterator[tuple[Callable[[int], None], console.Advance]]:
        """To be told the total once it is known, and what is done after that."""
        from mgtool.runs import progress

        with console.progress(what, quiet=self.quiet, streams=streams) as advance:
            yield functools.partial(progress.started, advance), advance

    def summarize(
        self, summary: Mapping[str, Any], title: str, *, done: int | None = None, then: Sequence[object] = ()
    ) -> None:
        shown = {"as_json": self.as_json, "quiet": self.quiet}
        summaries.summarize(summary, title=title, **shown, done=done, then=summaries.command(*then))

    def exit_code(self, failures: int, total: int, left_out: Mapping[str, Any] | None = None) -> int:
        return exit_code(failures, total, self.allow_failures, unused=left_out if self.strict else None)


def plan(sources: Sequence[Source], out: str, chosen: PackOptions, overwrite: bool, screen: Screen) -> int:
    from mgtool.stages import pack as stage

    refuse_both_on_stdout(out == "-", screen)
    planned = stage.plan(sources, None if out == "-" else out, chosen, overwrite=overwrite)
    summary = {"out": out, **dataclasses.asdict(planned)}
    summaries.summarize(summary, title="pack would write", as_json=screen.as_json, quiet=False)
    return screen.exit_code(0, 0, planned.left_out)


def explain(sources: Sequence[Source], chosen: PackOptions, screen: Screen) -> int:
    """Say on stdout what each input is taken for, and why."""
    from mgtool.commands.pack_explanation import lines
    from mgtool.stages import pack as stage

    explained = list(stage.explain(sources, chosen))
    if screen.as_json:
        screen.summarize({"inputs": explained}, "mgtool pack --explain")
    else:
        text = "".join(on_a_terminal(line) + "\n" for one in explained for line in lines(one))
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    failed, left_out = (any(getattr(one, name) for one in explained) for name in ("failures", "left_out"))
    return screen.exit_code(int(failed), 1, {"inputs": left_out} if left_out else {})


def refuse_both_on_stdout(is_stream: bool, screen: Screen) -> None:
    if screen.as_json and is_stream:
        raise UsageError("as_json", "and `out` - both want stdout: give `out` a folder")


def refuse_unfit_stdout(is_stream: bool, screen: Screen) -> None:
    """Refuse what stdout cannot take, or what nobody can read there."""
    refuse_both_on_stdout(is_stream, screen)
    if is_stream and sys.stdout.isatty():
        raise UsageError("out", "- writes a tar, which is nothing for a terminal: add > FILE.tar, or | and a command")


def verify(tars: Sequence[str], check: Check, readers: Readers, workers: int, screen: Screen) -> int:
    """Say on stdout what is wrong with which sample."""
    from mgtool.stages import verify as stage

    with screen.progress("tars") as (started, advance):
        verified = stage.verify(tars, check=check, readers=readers, workers=workers, started=started, advance=advance)
    findings = verified.findings
    counts = {"tars": verified.tars, "samples": verified.samples, "findings": len(findings)}
    summary: dict[str, Any] = {**counts, "readers": verified.readers, "readers_read": verified.readers_read}
    if screen.as_json:
        summary |= {"findings": findings}
    else:
        for finding in findings:
            where = ": ".join(part for part in (finding.tar, finding.key, finding.check) if part)
            line = on_a_terminal(f"{where}: {finding.detail}") + "\n"
            sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    screen.summarize(summary, "mgtool pack --verify", done=verified.samples)
    return screen.exit_code(verified.bad, max(verified.samples, verified.bad))


def on_a_terminal(text: str) -> str:
    """A line with what a terminal would obey, as names of members may hold, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unpack(tars: Sequence[str], folder: Path, screen: Screen, *, overwrite: bool, wait: bool) -> int:
    """Write what `mgtool pack` takes: pictures, a conversation file and box shards."""
    from mgtool.stages import unpack as stage

    with console.progress("samples", quiet=screen.quiet) as advance:
        unpacked = stage.unpack(tars, folder, overwrite=overwrite, wait=wait, advance=advance)
    boxes = ("--boxes", folder / "boxes") if (folder / "boxes").exists() else ()
    again = ("--images", folder / "images", *boxes, "--out", f"{folder}-tars")
    then = ("mgtool", "pack", folder / "conversations.json", *again)
    summary = {"out": str(folder), **dataclasses.asdict(unpacked)}
    screen.summarize(summary, "mgtool pack --unpack", done=unpacked.samples, then=then)
    summaries.show_failures(unpacked.failures, folder, quiet=screen.quiet)
    return screen.exit_code(unpacked.failures, unpacked.samples + unpacked.failures, unpacked.left_out)
