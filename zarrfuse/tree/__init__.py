"""A file system of paths that knows no FUSE: the bucket, the drop box, and their router."""
