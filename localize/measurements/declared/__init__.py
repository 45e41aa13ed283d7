"""A file per measurement, called as it is; each holds its `MEASUREMENT`."""
