"""What the commands of `tv2tv` do (`pipeline.cli` puts them together)."""
