"""The gateway as a Lambda function: `gateway.lambda_.handler.handler`, configured as everywhere by variables.

Importing this module starts it, in the phase in which Lambda allows for it.
"""

from __future__ import annotations

from typing import Final

from gateway.lambda_.function import start

handler: Final = start()
