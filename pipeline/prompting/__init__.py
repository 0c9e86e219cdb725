"""Prompts from the command line: `tv2tv prompt list | show | try`."""
