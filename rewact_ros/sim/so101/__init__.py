"""A SO-101 arm: `so101/pick-cube`."""
