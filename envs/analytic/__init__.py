"""Systems written down as formulas: fast, exact and with known answers."""
