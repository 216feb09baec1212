"""Results as DICOM objects: structured reports, segmentations and secondary captures (docs/dicom-results.md).

`objects` writes them, `requests` asks a server for what they need besides a result. Only `kinds` imports no library.
"""
