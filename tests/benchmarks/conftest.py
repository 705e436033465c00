"""Scoring hand-made files in one call."""

from bench import bench as bench
from bench import value as value
from bench import without_meteor as without_meteor
from judges import serve as serve
