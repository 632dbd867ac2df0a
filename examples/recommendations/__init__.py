"""A shop for the demo of recommendations: everything in it is invented."""
