"""What we measure, and against whom; `python -m benchmarks` runs all that this machine can."""
