"""Reads records and commits offsets: the consumer group, and a reader up to an end."""
