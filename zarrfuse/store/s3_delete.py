"""Many objects deleted in one request: the document that says which, and the one that answers.

Pure. A key that XML 1.0 cannot carry unchanged is not for this: `fits_xml` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from zarrfuse.core.keys import Key
from zarrfuse.store.s3_errors import Refusal

#: S3 takes at most this many keys in one request; Swift answers 400 to one more.
MAX_KEYS = 1000

# Not allowed in XML 1.0, or changed by its parsers (CR; blanks at the ends are left to nobody).
_NOT_XML = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]|^\\s|\\s$")
# What a status would have said, for the codes an <Error> row may have.
_STATUS = {"AccessDenied": 403, "SlowDown": 503, "InternalError": 500, "ServiceUnavailable": 503}


def fits_xml(key: Key) -> bool:
    return _NOT_XML.search(key) is None


def delete_document(keys: Iterable[Key]) -> bytes:
    rows = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>true</Quiet>{rows}</Delete>".encode()


def kept_keys(body: bytes) -> dict[Key, Refusal]:
    """The keys that were not deleted, and why."""
    kept: dict[Key, Refusal] = {}
    for element in ElementTree.fromstring(body).iter():
        if element.tag.rpartition("}")[2] != "Error":
            continue
        fields = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
        code = fields.get("Code", "")
        kept[Key(fields.get("Key", ""))] = Refusal(
            _STATUS.get(code, 400), code, fields.get("Message", "")
        )
    return kept
