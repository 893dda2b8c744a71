"""Plain SAC beside other libraries' SAC, each in an environment of its own."""
