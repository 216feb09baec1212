"""Entry point of the Lambda function: `gateway.lambda_.handler.handler`. Importing this module starts the gateway."""

from typing import Final

from gateway.lambda_.function import start

handler: Final = start()
