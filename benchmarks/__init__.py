"""What we measure, and against whom; `python -m benchmarks` runs everything that this machine can."""
