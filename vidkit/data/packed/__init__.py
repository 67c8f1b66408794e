"""Sources that are still packed: what an archive holds, found once; and members read where they lie."""
