"""Numerical Jacobians of Gymnasium's MuJoCo environments beside exact ones of their MJX twins."""
