"""What is inside a dataset, for people: counts and contact sheets."""
