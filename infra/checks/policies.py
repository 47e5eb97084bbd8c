# /// script
# requires-python = ">=3.12"
# dependencies = [
#   "parliament==1.6.4",
#   "setuptools<81", # parliament imports pkg_resources
# ]
# ///
"""Look at the policies of roles with parliament, which knows the actions, resources and conditions of IAM.

It reads what `terraform output -json` of the policy module says from standard input. First it must find what is wrong
with policies that are wrong, or its silence would say nothing.
"""

import json
import sys
from typing import Any, Final

import parliament

WRONG: Final[dict[str, dict[str, Any]]] = {
    "an action that is not there": {"Action": ["s3:GetObjects"], "Resource": ["arn:aws:s3:::example-data/*"]},
    "an object without a key": {"Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::example-data"]},
    "a bucket with a key": {"Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::example-data/*"]},
    "half an ARN": {"Action": ["lambda:InvokeFunction"], "Resource": ["arn:aws:lambda:function:frazil"]},
    "an action of another resource": {"Action": ["sqs:SendMessage"], "Resource": ["arn:aws:s3:::example-data/*"]},
}


def findings(text: str) -> list[str]:
    """What parliament says of a policy."""
    return [f"{one.issue}: {one.detail} {one.location}" for one in parliament.analyze_policy_string(text).findings]


def main() -> int:
    """Say what is wrong; 1 if anything is."""
    problems = []
    for what, wrong in WRONG.items():
        document = {"Version": "2012-10-17", "Statement": [{"Sid": "Wrong", "Effect": "Allow"} | wrong]}
        if not findings(json.dumps(document)):
            problems.append(f"parliament does not find {what}")
    policies = json.load(sys.stdin)["policies"]["value"]
    for role, text in policies.items():
        problems += [f"{role}: {found}" for found in findings(text)]
    print("\n".join(problems) or f"parliament: {len(policies)} roles, nothing found")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
