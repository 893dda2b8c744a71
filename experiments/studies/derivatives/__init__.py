"""The derivatives of an environment, measured: `python -m experiments.studies.derivatives`."""
