"""Whether a secret is shown in a text, as it is or as Lithops writes its payloads: JSON in base64."""

import base64
import re
from binascii import Error


def shown_in(text: str, secret: str) -> bool:
    for found in re.findall(r"[A-Za-z0-9+/_-]{40,}=*", text):
        try:
            text += base64.b64decode(found + "==", altchars=b"-_").decode(errors="replace")
        except Error:
            continue
    return secret in text
