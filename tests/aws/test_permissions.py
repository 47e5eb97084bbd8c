"""Statements of policies are decided as AWS documents it."""

from typing import Any

import pytest

from .permissions import applies

OBJECT = "arn:aws:s3:::data/archive/chunks/one"


def allows(context: dict[str, str] | None = None, **statement: Any) -> bool:
    whole = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"} | statement
    return applies(whole, "s3:GetObject", OBJECT, context or {})


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ({}, True),
        ({"Action": "s3:*"}, True),
        ({"Action": "S3:getobject"}, True),
        ({"Action": ["s3:PutObject", "s3:Get*"]}, True),
        ({"Action": "s3:PutObject"}, False),
        ({"Action": "s3:GetObjectVersion"}, False),
        ({"Resource": OBJECT}, True),
        ({"Resource": "arn:aws:s3:::data/archive/*"}, True),
        ({"Resource": "arn:aws:s3:::data/archive/chunks/?ne"}, True),
        ({"Resource": "arn:aws:s3:::data/archive/chunks/[o]ne"}, False),
        ({"Resource": "arn:aws:s3:::data/archive"}, False),
        ({"Resource": "arn:aws:s3:::data/ARCHIVE/*"}, False),
        ({"Resource": "arn:aws:s3:::data.archive/*"}, False),
    ],
)
def test_actions_and_resources(statement: dict[str, Any], *, expected: bool) -> None:
    assert allows(**statement) == expected


def test_what_is_about_all_but_some() -> None:
    rest = {"Effect": "Allow", "Resource": "*"}
    assert applies({**rest, "NotAction": "s3:PutObject"}, "s3:GetObject", OBJECT, {})
    assert not applies({**rest, "NotAction": "s3:Get*"}, "s3:GetObject", OBJECT, {})
    other = {"Effect": "Allow", "Action": "s3:GetObject"}
    assert applies({**other, "NotResource": "arn:aws:s3:::other/*"}, "s3:GetObject", OBJECT, {})
    assert not applies({**other, "NotResource": "arn:aws:s3:::data/*"}, "s3:GetObject", OBJECT, {})


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws:securetransport": "true"}, False),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:securetransport": "false"}, True),
        ({"Null": {"s3:if-none-match": "true"}}, {}, True),
        ({"Null": {"s3:if-none-match": "true"}}, {"s3:if-none-match": "*"}, False),
        ({"StringLike": {"s3:prefix": ["archive/*", ""]}}, {"s3:prefix": "archive/x"}, True),
        ({"StringLike": {"s3:prefix": "archive/*"}}, {"s3:prefix": "other/x"}, False),
        ({"StringLike": {"s3:prefix": "archive/*"}}, {}, False),
        ({"StringLikeIfExists": {"s3:prefix": "archive/*"}}, {}, True),
        ({"StringEquals": {"aws:RequestedRegion": "eu-central-1"}}, {"aws:requestedregion": "eu-central-1"}, True),
        ({"StringNotEquals": {"aws:RequestedRegion": "eu-central-1"}}, {"aws:requestedregion": "us-east-1"}, True),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, {"s3:max-keys": "11"}, False),
        (
            {"StringEquals": {"a": "1"}, "Bool": {"b": "true"}},
            {"a": "1", "b": "false"},
            False,
        ),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, str], *, expected: bool) -> None:
    assert allows(context, Condition=condition) == expected


def test_a_condition_that_is_not_known_is_an_error_and_no_answer() -> None:
    with pytest.raises(NotImplementedError, match="IpAddress"):
        allows({"aws:sourceip": "127.0.0.1"}, Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
