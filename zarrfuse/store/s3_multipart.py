"""A large object, uploaded in parts: started, sent, completed, and aborted where that fails.

Swift takes at most 1000 parts and never removes an abandoned upload by itself, so the part size
follows from the object's size, and a failure aborts the upload before it is told.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from xml.etree import ElementTree

import structlog

from zarrfuse.config import MIB
from zarrfuse.core.keys import ETag, Key
from zarrfuse.errors import RequestRejected, StoreError, Unavailable
from zarrfuse.store.base import Body
from zarrfuse.store.bodies import piece_of
from zarrfuse.store.s3_errors import Attempt, error_in_body, error_of
from zarrfuse.store.s3_signed import Answer, SignedClient

#: Swift's default max_upload_part_num; AWS and RGW take 10 000.
MAX_PARTS = 1000
#: Parts of one object under way together; more would starve the other requests.
PARTS_AT_ONCE = 4

#: Performs one request: again where it failed and may succeed, or when there is a place for it.
Performing = Callable[[Callable[[], Answer]], Answer]


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    start: int
    stop: int


def plan_parts(size: int, smallest_part: int) -> list[Part]:
    """Equal parts of whole MiB, at least `smallest_part` each, at most MAX_PARTS of them."""
    least = max(smallest_part, -(-size // MAX_PARTS))
    step = -(-least // MIB) * MIB
    starts = range(0, size, step)
    return [Part(n, start, min(start + step, size)) for n, start in enumerate(starts, 1)]


@dataclass(frozen=True, slots=True)
class Upload:
    """One object on its way up. `attempt` gives the words for its errors.

    A part has a place among the requests in flight while it is sent; the pauses between its tries
    have none, nor has the completion, for which Swift looks at all parts.
    """

    client: SignedClient
    key: Key
    body: Body
    attempt: Attempt
    retrying: Performing
    limited: Performing

    def run(self, parts: list[Part], *, if_absent: bool) -> ETag:
        """Sends all parts and completes; the ETag of what stands there then."""
        started = self.limited(lambda: self._send("POST", {"uploads": ""}))
        upload_id = _text(started.body, "UploadId")
        with self._aborting(upload_id), ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            digests = list(pool.map(lambda part: self._send_part(part, upload_id), parts))
            return self._complete(upload_id, parts, digests, if_absent=if_absent)

    def _send_part(self, part: Part, upload_id: str) -> bytes:
        data = piece_of(self.body, part.start, part.stop)
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        query = {"partNumber": str(part.number), "uploadId": upload_id}
        headers = {"Content-MD5": base64.b64encode(digest).decode()}
        self.retrying(lambda: self.limited(lambda: self._send("PUT", query, headers, data)))
        return digest

    def _complete(
        self, upload_id: str, parts: list[Part], digests: list[bytes], *, if_absent: bool
    ) -> ETag:
        rows = (
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{digest.hex()}</ETag></Part>"
            for part, digest in zip(parts, digests, strict=True)
        )
        document = f"<CompleteMultipartUpload>{''.join(rows)}</CompleteMultipartUpload>".encode()
        query = {"uploadId": upload_id}
        try:
            condition = {"If-None-Match": "*"} if if_absent else {}
            answer = self._send("POST", query, condition, document)
        except RequestRejected as error:
            if error.status != 501:  # Swift before 2.36 knows no condition here
                raise
            answer = self._send("POST", query, {}, document)
        failure = error_in_body(answer.body)
        if failure is not None:
            raise error_of(self.attempt, failure)
        return self._verified(ETag.parse(_text(answer.body, "ETag")), digests)

    def _verified(self, etag: ETag, digests: list[bytes]) -> ETag:
        """The ETag, unless it states another content than the parts had."""
        whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
        if re.fullmatch(r"[0-9a-f]{32}-\d+", etag) and etag != f"{whole}-{len(digests)}":
            raise Unavailable(f"{self.attempt.what}: the server holds other bytes than were sent")
        return etag

    @contextmanager
    def _aborting(self, upload_id: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._abort(upload_id)
            raise

    def _abort(self, upload_id: str) -> None:
        try:
            self._send("DELETE", {"uploadId": upload_id})
        except StoreError as error:
            structlog.get_logger(__name__).warning(
                "parts of a failed upload are left in the bucket", key=self.key, error=str(error)
            )

    def _send(
        self,
        method: str,
        query: dict[str, str],
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        return self.client.send(
            method, self.key, attempt=self.attempt, query=query, headers=headers, body=body
        )


def _text(body: bytes, name: str) -> str:
    """The text of the document's element of that name."""
    for element in ElementTree.fromstring(body).iter():
        if element.tag.rpartition("}")[2] == name:
            return element.text or ""
    raise Unavailable(f"the server's answer names no {name}")
