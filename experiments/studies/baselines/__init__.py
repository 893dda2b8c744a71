"""Agents of other people on our environments: returns beside those of ours."""
