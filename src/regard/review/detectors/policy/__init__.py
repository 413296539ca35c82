"""The update itself: its size, its entropy, what it learns from."""
