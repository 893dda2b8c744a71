"""Speed and memory side by side, as ratios, measured by `experiments.bench.timing`."""
