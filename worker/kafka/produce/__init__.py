"""Writes outputs: producers, transactions, and the sinks of both guarantees."""
