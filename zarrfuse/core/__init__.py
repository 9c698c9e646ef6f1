"""Pure values and rules: keys, ranges, temporary names, Zarr's grammar. No I/O, no clock."""
