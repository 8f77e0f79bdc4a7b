"""A robot policy the whole way: logs, one ONNX file, a robot, practice, the gap."""

__version__ = "0.1.0"
