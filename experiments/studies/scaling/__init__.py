"""What the first-order term buys against the number of dimensions.

`python -m experiments.studies.scaling --help`; `docs/results/scaling.md` says what is measured, and
what came out.
"""
