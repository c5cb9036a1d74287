"""Examples: read from where they are, split in three, brought to the device; and what is to be learnt of them."""
