"""Results as DICOM objects: structured reports, segmentations and secondary captures (docs/dicom-results.md)."""

from radserve.dicom.kinds import KINDS as KINDS
from radserve.dicom.kinds import Kind as Kind
from radserve.dicom.kinds import default_kind as default_kind
from radserve.dicom.objects import encode as encode
from radserve.dicom.objects import of_image as of_image
from radserve.dicom.objects import of_series as of_series
