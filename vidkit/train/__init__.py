"""Training and evaluation of the models on built datasets."""
