"""Measures the derivatives of an environment: `python -m experiments.gradient_audit --help`."""
