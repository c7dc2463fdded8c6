"""A local UP42 API with signed-URL storage, for the demo, the tests and the documentation."""

from bulkdl.simulator.account import Account, ProjectKey
from bulkdl.simulator.expected import ExpectedOutput, ExpectedSkip
from bulkdl.simulator.fault_script import FaultScriptError
from bulkdl.simulator.fault_table import FAULTS
from bulkdl.simulator.faults import Faults
from bulkdl.simulator.messages import Seen
from bulkdl.simulator.server import Simulator

__all__ = [
    "FAULTS",
    "Account",
    "ExpectedOutput",
    "ExpectedSkip",
    "FaultScriptError",
    "Faults",
    "ProjectKey",
    "Seen",
    "Simulator",
]
