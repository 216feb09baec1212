"""Decodes DICOM objects: parsing, pixel data, windowing, image plane."""
