"""Bridges to other brokers, without the connections themselves: all here is pure."""
