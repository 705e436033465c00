"""What tests of clusters have in common: where other work needs the memory of the machine, Ray ends none of theirs."""

import os

os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
