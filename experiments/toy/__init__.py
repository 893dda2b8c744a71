"""Critics beside a known Q*: `python -m experiments.toy --help`."""
