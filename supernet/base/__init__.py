"""What all the rest stands on: files, random numbers, batches, progress. It knows nothing of networks to search."""
