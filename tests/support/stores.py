"""Stores on the test Swift, as the contract and fault tests want them."""

from typing import Any

from tests.support.swift import SwiftServer
from zarrfuse.auth.aws import Credentials
from zarrfuse.config import Requests
from zarrfuse.store.s3 import S3Store
from zarrfuse.store.s3_signed import Endpoint


def s3_endpoint(swift: SwiftServer, bucket: str) -> Endpoint:
    keys = Credentials(swift.access_key, swift.secret_key)
    return Endpoint(swift.endpoint_url, swift.region, bucket, keys)


def s3_store(swift: SwiftServer, bucket: str, requests: Requests | None = None) -> S3Store:
    """Without any wrapper."""
    return S3Store(s3_endpoint(swift, bucket), requests or Requests())


def s3fs_options(swift: SwiftServer) -> dict[str, Any]:
    return {
        "key": swift.access_key,
        "secret": swift.secret_key,
        "client_kwargs": {"endpoint_url": swift.endpoint_url, "region_name": swift.region},
        "config_kwargs": {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    }
