"""How good the gradient of a return over a window is, as the window grows."""
