"""The article kind, which turns each brief into an article of the requested length."""
