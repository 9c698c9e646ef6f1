"""The FUSE binding and nothing else: guard, page cache, life. The only importer of a binding."""
