"""Recorded episodes looked at, judged and marked afterwards: what the console's Review tab does."""
