"""MuJoCo models on MJX, MuJoCo's physics engine in JAX."""
