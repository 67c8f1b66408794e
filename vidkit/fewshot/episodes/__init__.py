"""Which classes and clips an episode has: class splits, pools, draws and published lists."""
