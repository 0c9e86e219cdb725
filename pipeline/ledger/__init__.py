"""The ledger: stored rows, what follows from them, and what is left to do."""
