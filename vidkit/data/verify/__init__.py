"""Does a dataset hold what its records say: hashes, samples, frames, labels."""
