"""A provider for Terraform that knows the arguments of AWS' resources and nothing else.

Terraform validates against it, and mocks it; it can neither plan nor make anything. It is started once, and any number
of Terraform's commands attach to it.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
from tf.gen import grpc_controller_pb2 as controller
from tf.gen import grpc_controller_pb2_grpc as controller_rpc
from tf.gen import grpc_stdio_pb2_grpc as stdio_rpc
from tf.gen import tfplugin_pb2 as wire
from tf.gen import tfplugin_pb2_grpc as rpc

SCHEMAS: Final = Path(__file__).with_name("aws-schemas.json")


def schema(block: dict[str, Any]) -> wire.Schema:
    """A schema as Terraform takes it."""
    return wire.Schema(version=0, block=_block(block))


def _block(block: dict[str, Any]) -> wire.Schema.Block:
    return wire.Schema.Block(
        attributes=[_attribute(name, one) for name, one in block["attributes"].items()],
        block_types=[
            wire.Schema.NestedBlock(
                type_name=name,
                nesting=one["nesting"].upper(),
                min_items=one["min"],
                max_items=one["max"],
                block=_block(one["block"]),
            )
            for name, one in block["blocks"].items()
        ],
    )


def _attribute(name: str, one: dict[str, Any]) -> wire.Schema.Attribute:
    flags = {flag: True for flag in ("required", "optional", "computed") if one.get(flag)}
    return wire.Schema.Attribute(name=name, type=json.dumps(one["type"]).encode(), **flags)


class SchemaServicer(rpc.ProviderServicer):
    """What Terraform asks while it validates; all else is not implemented."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._schemas = wire.GetProviderSchema.Response(
            provider=schema(found["provider"]),
            resource_schemas={name: schema(block) for name, block in found["resources"].items()},
        )

    def GetProviderSchema(self, _request: object, _context: object) -> object:  # noqa: N802 - the protocol's name
        """All schemas."""
        return self._schemas

    def ValidateProviderConfig(self, _request: object, _context: object) -> object:  # noqa: N802
        """Terraform itself has compared it with the schema."""
        return wire.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, _request: object, _context: object) -> object:  # noqa: N802
        """Terraform itself has compared it with the schema."""
        return wire.ValidateResourceConfig.Response()

    def StopProvider(self, _request: object, _context: object) -> object:  # noqa: N802
        """There is nothing to stop."""
        return wire.StopProvider.Response()


class Controller(controller_rpc.GRPCControllerServicer):
    """What Terraform's plugin library asks at the end; the server stays for the next command."""

    def Shutdown(self, _request: object, _context: object) -> object:  # noqa: N802
        """Stay."""
        return controller.Empty()


class Output(stdio_rpc.GRPCStdioServicer):
    """Where a provider's output would come from."""

    def StreamStdio(self, _request: object, _context: object) -> Iterator[object]:  # noqa: N802
        """None comes."""
        return iter(())


def main() -> None:
    """Serve until standard input ends; what TF_REATTACH_PROVIDERS must be is the first line of the output."""
    server = grpc.server(ThreadPoolExecutor(max_workers=10))
    rpc.add_ProviderServicer_to_server(SchemaServicer(json.loads(SCHEMAS.read_text())), server)
    controller_rpc.add_GRPCControllerServicer_to_server(Controller(), server)
    stdio_rpc.add_GRPCStdioServicer_to_server(Output(), server)
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/provider.sock"
        server.add_insecure_port(f"unix://{socket}")
        server.start()
        where = {"Network": "unix", "String": socket}
        attached = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": where}
        print(json.dumps({"registry.terraform.io/hashicorp/aws": attached}), flush=True)
        sys.stdin.read()
        server.stop(grace=None).wait()


if __name__ == "__main__":
    main()
