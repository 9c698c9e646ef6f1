"""zarrfuse mounts an OpenStack Swift bucket as a directory, for people who work with Zarr."""

__version__ = "0.1.0"
