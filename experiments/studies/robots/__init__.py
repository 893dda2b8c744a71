"""Derivatives of one step of four robots beside those of MuJoCo's C engine."""
