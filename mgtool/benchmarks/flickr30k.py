"""Flickr30k captions (Young et al., 2014; Karpathy's splits, pycocoevalcap)."""

from __future__ import annotations

from mgtool.scoring.captions import CaptionBenchmark


class Flickr30k(CaptionBenchmark):
    """Captions of Flickr photographs."""

    name = "flickr30k"
    title = "Flickr30k captions"
    files = "dataset_flickr30k.json (cs.stanford.edu/people/karpathy/deepimagesent)"
