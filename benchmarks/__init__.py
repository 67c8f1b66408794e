"""What is measured, one script each; see README.md. Run from the repository's root."""
