"""Does the first-order term pay on MuJoCo: tasks, regimes, remedies, controls, paired seeds."""
