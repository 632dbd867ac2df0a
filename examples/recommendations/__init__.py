"""An invented shop for the demo of recommendations."""
