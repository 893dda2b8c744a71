"""Speed, side by side and as ratios."""
