"""Send requests for Lambda to the endpoint of the environment, where boto3 is not asked for it.

Lithops signs its invocations itself and posts them to the host of AWS, whatever AWS_ENDPOINT_URL says. With this
directory on PYTHONPATH, Python imports this module at its start. Only the connection changes: path, headers, body and
signature go as they are.
"""

import os
import re
from typing import Any
from urllib.parse import urlsplit

from botocore.httpsession import URLLib3Session

_LAMBDA = re.compile(r"https://lambda\.[a-z0-9-]+\.amazonaws\.com(?=/)")
_send = URLLib3Session.send


def _redirected(self: URLLib3Session, request: Any) -> Any:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_LAMBDA") or os.environ.get("AWS_ENDPOINT_URL")
    # An address other than loopback would be a way for keys to leave this machine.
    if endpoint and urlsplit(endpoint).hostname in {"127.0.0.1", "localhost", "::1"}:
        request.url = _LAMBDA.sub(endpoint.rstrip("/"), request.url)
    return _send(self, request)


URLLib3Session.send = _redirected
