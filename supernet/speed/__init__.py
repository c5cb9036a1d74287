"""The device, the processes, and what is faster on this machine; results are the same without."""
