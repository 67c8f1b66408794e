"""Every frozen dataclass of settings, the recipes, and their way to plain values and back."""
