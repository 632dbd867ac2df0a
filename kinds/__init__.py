"""What Pressroom produces: one folder for each kind of content, found by their entry points."""
