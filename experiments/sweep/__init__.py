"""Sweeps: all configurations and seeds in one compiled program, or as few as fit in memory."""
