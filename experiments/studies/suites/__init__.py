"""Which environments work, ours and other people's: each is held to the protocol."""
