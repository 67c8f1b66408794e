"""What the readers share: the walk, names and endings, texts, class names, and rows under construction."""
