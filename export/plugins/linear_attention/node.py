"""The ONNX node that the plugins answer to; the exporter writes it, TensorRT looks it up."""

OPERATOR = "LinearAttention"  # inputs query (B, h, T, D), key and value (B, h, S, D); one output
NAMESPACE = "skyfix"  # the attribute plugin_namespace
VERSION = "1"  # the attribute plugin_version, of type string
EPSILON_ATTRIBUTE = "epsilon"  # float: added to the sum of weights
EPSILON_DEFAULT = 1e-6  # published code of MFRGN
