"""Shards: plain WebDataset tars with a manifest and an index, no pickle anywhere.

`sample` says what one sample is, `writing` makes a set, `reading` opens one.
"""

from corpus.shards.reading import Entry, ShardSet
from corpus.shards.sample import Sample
from corpus.shards.writing import ShardPlan, write_shards

__all__ = ["Entry", "Sample", "ShardPlan", "ShardSet", "write_shards"]
