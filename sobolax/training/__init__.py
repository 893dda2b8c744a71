"""The training loop and its parts: an agent's interface, replay, normalisation, evaluation."""
