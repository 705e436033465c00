"""`mgtool env`: what is here, for reports of faults."""

from __future__ import annotations

from mgtool.commands import summaries
from mgtool.commands.options import Json


def env(as_json: Json = False) -> None:
    """Tell machine, devices, versions, extras and caches, as a report of a fault needs them."""
    from mgtool.stages.environment import environment

    found = environment().to_dict()
    found["versions"] = {name: version for name, version in found["versions"].items() if name != "python"}
    summaries.tell(found, as_json=as_json)
