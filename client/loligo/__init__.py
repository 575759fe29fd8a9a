"""The public package: the `loligo` command and the helper that mount(8) calls."""
