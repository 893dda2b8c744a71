"""How a run is started, kept and resumed: configuration, command line, folder, checkpoints."""
