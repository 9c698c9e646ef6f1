"""What stands in the bucket, answered from few LIST requests, with our own changes laid over."""
