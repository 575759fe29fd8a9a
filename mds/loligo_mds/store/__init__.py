"""The durable state of a shard. Start at `shard_store`."""
