"""Where the client meets the world: kernel, threads, metadata, objects."""
