"""What the daemon says of itself: one status model, and the socket that hands it out."""
