"""One file for each symptom, by family. A file that is here is in the catalogue."""
