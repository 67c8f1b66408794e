"""What learners see of a clip: features, pixels, encoders, and the maps between them."""
