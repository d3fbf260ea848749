"""One thin node per file; each feeds a pure class and does what it decides."""
