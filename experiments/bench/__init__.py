"""Speed and memory side by side, as ratios; `experiments.timing` says how they are measured."""
