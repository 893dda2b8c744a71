"""Trained policies that come with the repository."""
