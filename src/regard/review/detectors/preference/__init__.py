"""DPO and its family."""
