"""What a signature says: comparisons, tables and views, each with its interval, its null and what it rests on."""
