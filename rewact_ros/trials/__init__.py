"""Versions compared by trials: tests that hold whenever one looks, and what they promise."""
