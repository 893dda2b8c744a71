"""What runs leave for people: intervals, tables, figures, the 3D page."""
