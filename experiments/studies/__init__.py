"""Experiments that answer one question each."""
