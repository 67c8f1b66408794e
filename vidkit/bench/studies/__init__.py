"""The papers' questions, each a set of named arms that ends in a table."""
