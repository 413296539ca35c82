"""Policy, reference, value and reward model: loading, forward passes, checkpoints (safetensors only)."""
