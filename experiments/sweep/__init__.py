"""Sweeps: every setting and every seed in one compiled program, or as few as fit."""
