"""What is measured on an NVIDIA GPU: `tables` and `ablation` are commands."""
