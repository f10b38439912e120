"""Several worker processes that share one device: what starts, watches and joins them."""
