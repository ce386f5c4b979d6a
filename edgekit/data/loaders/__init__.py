"""Data set loaders: arguments of a calibration set -> parts of raw samples. Nothing is preprocessed here."""
