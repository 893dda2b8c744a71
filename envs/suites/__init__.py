"""Other people's environments behind our protocol: `envs.make("suite:name")`."""
