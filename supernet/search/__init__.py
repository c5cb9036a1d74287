"""Step 3: candidates are scored with the shared weights, and finalists chosen."""
