"""gym-hil's Panda arm: `hil/panda-pick-cube`."""
