"""Asks the cluster: connections, permissions, topics, transactions that hang."""
