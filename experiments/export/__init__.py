"""Trained policies for other programs: ONNX, and NumPy arrays."""
