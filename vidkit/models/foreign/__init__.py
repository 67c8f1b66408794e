"""Other projects' checkpoints, read and written: VideoMAE, AdaMAE, Hugging Face."""
