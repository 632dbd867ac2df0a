"""Articles: each brief becomes an article of the asked length."""
