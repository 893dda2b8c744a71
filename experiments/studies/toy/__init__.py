"""Critics beside a known Q*: `python -m experiments.studies.toy --help`."""
