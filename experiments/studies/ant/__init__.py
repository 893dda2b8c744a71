"""The experiment of arXiv 2511.19165: SAC on Ant, with gradients and without."""
