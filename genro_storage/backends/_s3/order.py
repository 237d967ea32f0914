"""The order of a listing of versions, which botocore loses."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

KINDS = {"Version": "Versions", "DeleteMarker": "DeleteMarkers"}
ORDER = "GenroOrder"
"""The key of an answer to ListObjectVersions that says from which of its two lists each next entry comes."""


def keep_order(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """A hook of botocore, whose answers have deletions in a list of their own: times alone do not tell the order."""
    if response_dict["status_code"] == 200:
        try:
            tags = [element.tag.rpartition("}")[2] for element in ET.fromstring(response_dict["body"])]
        except ET.ParseError:
            return  # botocore will say so
        customized_response_dict[ORDER] = [KINDS[tag] for tag in tags if tag in KINDS]
