"""Inputs: what is listed, where it lies, and its name by its bytes."""
