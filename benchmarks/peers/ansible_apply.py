"""Guests present and started by Ansible: ansible_apply.py URL COUNT FOLDER VMIDS, PEER_FLEET in the environment."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

URL, _, FOLDER, _ = sys.argv[1:]
fleet = json.loads(os.environ["PEER_FLEET"])
where = urlsplit(URL)
api = {
    "api_host": where.hostname, "api_port": where.port, "api_user": fleet["user"], "api_token_id": fleet["name"],
    "api_token_secret": fleet["secret"], "validate_certs": False, "node": "{{ item.node }}", "vmid": "{{ item.vmid }}",
}  # fmt: skip
made = {**api, "name": "new-{{ item.vmid }}", "cores": 2, "memory": 2048, "state": "present"}
book = [
    {
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [
            {"community.proxmox.proxmox_kvm": made, "loop": fleet["guests"]},
            {"community.proxmox.proxmox_kvm": {**api, "state": "started"}, "loop": fleet["guests"]},
        ],
    }
]  # fmt: skip
playbook = Path(FOLDER) / "playbook.json"
playbook.write_text(json.dumps(book))
env = {**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_HOME": f"{FOLDER}/ansible",
       "PYTHONWARNINGS": "ignore"}  # fmt: skip
command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(playbook)]
began = time.perf_counter()
done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
took = time.perf_counter() - began
if done.returncode:
    sys.exit((done.stdout + done.stderr).replace("\n", " ")[-1500:])
print(json.dumps([took]))
