"""Meta-World's fifty tasks of a Sawyer arm: `metaworld/pick-place-v3` and so on."""
