"""NetCDF to Zarr, bit for bit. Knows no mount, no bucket and no keys: it needs only `put`."""
