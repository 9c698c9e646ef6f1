"""Disposable copies of bytes that are in the bucket, and the reader that goes through them."""
