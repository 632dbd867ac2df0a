"""The commands that make recommendations and manage recommenders."""
