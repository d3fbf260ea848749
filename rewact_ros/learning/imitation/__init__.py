"""Behaviour cloning with a reward head, fine-tuning on corrections, and HG-DAgger."""
