"""Scoring hand-made files in one call."""

from bench import bench as bench
from bench import value as value
from judges import serve as serve
