"""A network by itself: as Python code, weights, torch.export, ONNX; checked before it appears."""
