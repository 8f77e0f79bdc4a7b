"""Learning algorithms: one file each, found by name; the only home of torch."""
