"""Sweeps past one machine: `jax.distributed` and Ray."""
