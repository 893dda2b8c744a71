"""What an accelerator is asked: everything in order of worth, within given minutes."""
