"""Views: shard sets that show stored captions in another way."""
