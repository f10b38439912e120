"""Records in and offsets back: the consumer group, and a reader up to an end."""
