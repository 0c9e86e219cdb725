"""One stage, one file: small classes from rows to rows. They know nothing of Ray or tables."""
