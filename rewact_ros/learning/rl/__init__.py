"""HIL-SERL-style fine-tuning: one trainer, one critic, one replay, three algorithms."""
