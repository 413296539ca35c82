"""One file a family. A loss takes its denominator from the caller and returns sums and counts beside it."""
