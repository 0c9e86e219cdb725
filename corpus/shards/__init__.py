"""Shards: plain WebDataset tars with a manifest, an index and a card, no pickle anywhere.

`sample` says what one sample is (`arrays`: its npy members), `tar` how a tar is spelled, `index`
and `manifest` what tells of them, `census` and `card` what they hold. `writing` makes a set,
`reading` opens one, `streaming` reads tars alone, `verifying` checks one. docs/format.md is the
format in words.
"""

from corpus.shards.census import Columns
from corpus.shards.manifest import read_manifest
from corpus.shards.reading import Entry, ShardSet
from corpus.shards.sample import Sample
from corpus.shards.streaming import Streamed, stream
from corpus.shards.writing import ShardPlan, refresh_card, write_shards

__all__ = [
    "Columns",
    "Entry",
    "Sample",
    "ShardPlan",
    "ShardSet",
    "Streamed",
    "read_manifest",
    "refresh_card",
    "stream",
    "write_shards",
]
