"""Runs a shard: requests in, effects out in order. No decision about the meaning of a request."""
