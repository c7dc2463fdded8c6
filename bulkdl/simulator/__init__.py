"""A local UP42 API with signed-URL storage, for the demo, the tests and the documentation."""

from bulkdl.simulator.account import ProjectKey, SimulatedAccount
from bulkdl.simulator.expected import ExpectedOutput, ExpectedSkip
from bulkdl.simulator.fault_script import FaultScriptError
from bulkdl.simulator.fault_table import FAULTS
from bulkdl.simulator.faults import Faults
from bulkdl.simulator.messages import RequestRecord
from bulkdl.simulator.server import Simulator, SimulatorOptions
from bulkdl.simulator.v2.deliveries import StorageOptions
from bulkdl.simulator.v2.expected import ExpectedFile, Place

__all__ = [
    "FAULTS",
    "ExpectedFile",
    "ExpectedOutput",
    "ExpectedSkip",
    "FaultScriptError",
    "Faults",
    "Place",
    "ProjectKey",
    "RequestRecord",
    "SimulatedAccount",
    "Simulator",
    "SimulatorOptions",
    "StorageOptions",
]
