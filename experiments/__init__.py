"""What a person runs: a configuration, a call, a table, plots and a page."""
