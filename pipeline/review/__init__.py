"""Review: people judge captions in a browser, and what they say is stored in the corpus."""
