"""What this installation of fused_rnn was built for. Written by the build."""

TENSORFLOW_VERSION = "2.21.0"
