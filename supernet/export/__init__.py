"""A network as files of its own: Python code, weights, torch.export, ONNX; each is checked before it appears."""
