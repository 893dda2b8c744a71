"""Sweeps on one machine: configurations, memory, shards."""
