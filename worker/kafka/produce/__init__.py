"""Outputs out: producers, transactions, and the sinks of both guarantees."""
