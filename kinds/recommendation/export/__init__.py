"""What a release of recommendations becomes: files, pages, a key-value export, the difference to another."""
