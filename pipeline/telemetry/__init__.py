"""What a run tells while it works: events, metrics, progress."""
