"""The kinds of content that Pressroom produces: each has a folder and is found through its entry point."""
