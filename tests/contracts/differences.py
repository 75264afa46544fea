"""The one list of what the stand-ins for PVE answer otherwise than the real server did, each with its reason.

A difference that is not listed fails the tests, and so does a listed one that is gone. A text that ends with `*` stands
for all that begin so. `docs/differences.md` is made of this list.
"""

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"


@dataclass(frozen=True)
class Listed:
    """A call, what the real server said, what the stand-in says instead, and why that does no harm."""

    call: str
    recorded: str
    instead: str
    why: str

    def covers(self, call: str, recorded: str, instead: str) -> bool:
        """Whether this entry speaks of a difference that was found."""
        pairs = ((self.call, call), (self.recorded, recorded), (self.instead, instead))
        return all(found.startswith(text[:-1]) if text.endswith("*") else found == text for text, found in pairs)


CONFIG, STATUS = "/nodes/pve1/qemu/N/config", "/nodes/pve1/qemu/N/status"
BAD = "400 Parameter verification failed."

_ABSENT = "the agent does not make this call; the simulator says 501 rather than pretend"
_BY_HAND = "guests of the recording were made by hand with fewer values; the simulator writes what PVE writes by itself"
_DAEMON = "the recording stopped pmxcfs by other ways than the API; the simulator has no pmxcfs of its own to stop"
_HELD = "a worker was held, or the guest changed, by other ways than the API, at an instant that was not recorded"
_SOFT = "the simulator checks this value less closely; it is a value that the agent never sends"
_PVE8 = "the simulator has the roles of PVE 9, where some privileges have other names"
_MACHINE = "a matter of the recording machine: emulated, no KVM, no name service"

PVESIM: tuple[Listed, ...] = (
    Listed("GET /", "200 OK", "501*", _ABSENT),
    Listed("GET /nodes/pve1", "200 OK", "501*", _ABSENT),
    Listed("GET /nodes/pve1/qemu/N/firewall/options", "200 OK", "501*", _ABSENT),
    Listed(f"GET {STATUS}", "500 Configuration file*", "501*", _ABSENT),
    Listed("POST /nodes/pve1/qemu/N/agent/ping", "500*", "501*", _ABSENT),
    Listed("POST /nodes/pve1/qemu/N/monitor", "200 OK", "501*", _ABSENT),
    Listed("GET /access/permissions", "/vms.VM.Monitor: number", "/vms.no VM.Monitor", _PVE8),
    Listed("GET /access/permissions", "/vms.no VM.*", "/vms.VM.*", _PVE8),
    Listed("GET /nodes/bad_node!/qemu", "500 hostname lookup 'bad_node!' failed*", "500 hostname lookup*", _MACHINE),
    Listed(f"GET {STATUS}/current", "no nics", "nics: object", _MACHINE),
    Listed("GET /nodes/pve1/qemu", "500 RPCEnvironment init request failed*", "200 OK", _DAEMON),
    Listed("GET /version", "500 RPCEnvironment init request failed*", "200 OK", _DAEMON),
    Listed(f"GET {CONFIG}", "no meta", "meta: text", _BY_HAND),
    Listed(f"GET {CONFIG}", "no smbios1", "smbios1: text", _BY_HAND),
    Listed(f"GET {CONFIG}", "no vmgenid", "vmgenid: text", _BY_HAND),
    Listed(f"GET {CONFIG}", "name: text", "no name", "without quorum nobody can write what the recording had there"),
    Listed(f"GET {CONFIG}", "no net0", "net0: text", "without quorum nobody can write what the recording had there"),
    Listed(f"GET {CONFIG}", "200 OK", "500 snapshot 's1' does not exist", _HELD),
    Listed("GET /nodes/pve1/qemu/N/snapshot/S/config", "200 OK", "500 snapshot 's1' does not exist", _HELD),
    Listed("GET /nodes/pve1/qemu/N/snapshot", "no parent", "parent: text", _HELD),
    Listed("GET /nodes/pve1/qemu/N/snapshot", "parent: text", "no parent", _HELD),
    Listed("GET /nodes/pve1/storage/local/content", "notes: text", "no notes", "notes of an archive are not kept"),
    Listed(
        "GET /nodes/pve1/tasks/UPID/log",
        f'{BAD} {{"upid": "unable to parse worker upid"}}',
        "200 OK",
        "the simulator does not mind what follows the UPID of a task that it has; the agent asks for whole ones",
    ),
    Listed("GET /nodes/pve1/tasks/UPID/log", "NoneType", "list", "the recording rotated the log away on its disk"),
    Listed("GET /nodes/pve1/tasks/UPID/log", "dict", "list", "the recording rotated the log away on its disk"),
    Listed(
        "GET /nodes/pve1/tasks/UPID/status",
        f'{BAD} {{"upid": "no such task"}}',
        "200 OK",
        "the recording removed the log on its disk",
    ),
    Listed("POST /nodes/pve1/qemu", f"{BAD} {{\"archive\": \"missing property - 'force'*", f"{BAD}*",
           "PVE 8 says it in other words"),
    Listed("POST /nodes/pve1/qemu/N/clone", "500 Linked clone feature*", "500 Linked clone feature*",
           "the format of the disk, which was made by hand"),
    Listed("POST /nodes/pve1/qemu/N/clone", "500 unable to find configuration file*", "200 OK UPID qmclone 999*",
           "the simulator finds out in the task that the source is not there; the agent only clones what it sees"),
    Listed(f"POST {STATUS}/reset", "500 unable to find configuration file*", "500 VM 999 not running", _SOFT),
    Listed(f"POST {STATUS}/start", f'{BAD} {{"machine"*', "200 OK UPID qmstart*", _SOFT),
    Listed(f"PUT {CONFIG}", f'{BAD} {{"hookscript"*', "500 only root can set 'hookscript' config", _SOFT),
    Listed(f"PUT {CONFIG}", "500 unable to parse directory volume name '1'", "200 OK", _SOFT),
    Listed("PUT /nodes/pve1/qemu/N/resize", f'{BAD} {{"disk"*', f'{BAD} {{"disk"*',
           "the recording keeps the beginning of long texts"),
    Listed(f"PUT {CONFIG}", f'{BAD} {{"description": "value may only be*', "200 OK",
           "the recording keeps the beginning of long texts, so the one put again is short"),
    Listed(f"PUT {CONFIG}", "200 OK", "500 volume 'local:iso/a.iso' does not exist", "the file lay on the machine"),
    Listed(f"PUT {CONFIG}", "200 OK", "500 checksum mismatch*", _HELD),
    Listed(f"PUT {CONFIG}", "200 OK", "500 VM is locked (snapshot)", _HELD),
    Listed(f"PUT {CONFIG}", "500 VM is locked (rollback)", "500 VM is locked (snapshot)", _HELD),
    Listed(f"PUT {CONFIG}", "500 VM is locked (snapshot-delete)", "500 VM is locked (snapshot)", _HELD),
    Listed(f"PUT {CONFIG}", "500 can't lock file*", "200 OK", _HELD),
)  # fmt: skip


FAKEPVE: dict[str, str] = {
    "the_rights_are_told": "its /access/permissions knows no path; the agent then leaves absence open",
    "an_unknown_task_is_none": "it says 500 where PVE says 400 with 'no such task'; the agent takes it for unreadable",
    "an_unknown_node_is_no_absence": "it does not mind the name of the node and looks for the guest",
    "a_task_names_the_token": "it knows passwords only, so its tasks belong to the user",
    "an_unknown_call_is_not_sent": "it says 404 where PVE says 501; the agent knows nothing then, and looks",
}
"""What the agent leans on and fakepve does otherwise: the behaviour in `test_every_pve.py`, and why."""


def page() -> str:
    """The page in docs that shows the list."""
    rows = [f"| `{one.call}` | {_cell(one.recorded)} | {_cell(one.instead)} | {one.why} |" for one in PVESIM]
    return "\n".join(
        [
            "<!-- Made by `python -m tests.contracts.differences` from that file; do not edit. -->",
            "",
            "# Where the simulator differs from Proxmox VE",
            "",
            "Recorded requests to the real API code of PVE 8.4 and 9 are put to the simulator in every test run. It",
            "answers alike but for what stands here; a difference that is not listed fails the tests, and so does a",
            "listed one that is gone. A `*` ends what is only the beginning of a text.",
            "",
            "| call | the real server | the simulator | why |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "## fakepve",
            "",
            "The behaviours that the agent leans on are asked of the simulator and of [fakepve](fakepve.md) alike, in",
            "`tests/contracts/test_every_pve.py`. fakepve differs in these; the simulator in none.",
            "",
            "| behaviour | what fakepve does |",
            "| --- | --- |",
            *(f"| {name.replace('_', ' ')} | {why} |" for name, why in FAKEPVE.items()),
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
