"""The engine that samples, and the grader that scores."""
