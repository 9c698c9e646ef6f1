"""What Zarr v2 and v3 call their objects, and nothing of what is in them."""
