"""What `rewact bench` measures: figures, how they are kept, shown and compared."""
