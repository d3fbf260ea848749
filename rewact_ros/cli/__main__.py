"""`python -m rewact_ros.cli …`: the command where no `rewact` is installed."""

from rewact_ros.cli import main

main()
