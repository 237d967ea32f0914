"""What type `azure` is made of: the client, errors and facts in both directions, and one module per kind of request."""
