"""SHAC beside SAC, each with and without gradients in the critic."""
