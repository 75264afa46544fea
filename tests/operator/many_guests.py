"""Two hundred guests as a grown cluster has them: both types, several disks and interfaces, texts of all sorts."""

from collections.abc import Iterator

TEXTS = (
    "",
    "Läuft seit 2019, **nicht** anfassen!",
    '# Büro\n\n- Größe: 3 m²\n- Zuständig: Jürgen\n\n| a | b |\n|---|---|\n| 1 | "zwei" |',
    "one: two # three\nfour: [five, {six}]\n    indented\n'quoted' \\ back",
    "  blanks before\nand after",
    "tab\there",
    "- a list\n- of two",
    "<!-- a comment of somebody else -->\ntext",
    "emoji 🦊 and 日本語",
)
TAGS = ("", "web", "web;prod", "no;on", "1;2024", "x-y_z.a+b")


def guests() -> Iterator[dict]:
    """As the simulator's guests file takes them."""
    for number in range(200):
        vmid = 200 + number
        kind = "lxc" if number % 3 == 2 else "qemu"
        config = dict(_lxc(number) if kind == "lxc" else _qemu(number))
        if text := TEXTS[number % len(TEXTS)]:
            config["description"] = text
        if tags := TAGS[number % len(TAGS)]:
            config["tags"] = tags
        template = number % 23 == 7
        guest = {
            "type": kind, "vmid": vmid, "node": f"pve{number % 3 + 1}",
            "name": f"{'ct' if kind == 'lxc' else 'vm'}-{vmid}",
            "config": config, "status": "running" if number % 5 and not template else "stopped",
        }  # fmt: skip
        yield {**guest, "template": True} if template else guest


def _qemu(n: int) -> Iterator[tuple[str, object]]:
    yield from {"cores": n % 8 + 1, "memory": 512 * (n % 4 + 1), "ostype": ("l26", "win11", "other")[n % 3]}.items()
    yield "scsihw", "virtio-scsi-single"
    yield "scsi0", f"local-lvm:{n % 5 + 4},iothread=1,ssd=1,discard=on"
    yield "net0", f"virtio=BC:24:11:00:{n:02X}:00,bridge=vmbr0,firewall=1,tag={n % 100 + 1}"
    if n % 2:
        yield from {"scsi1": "shared:1.5,backup=0", "virtio3": "local-lvm:1,cache=writeback,serial=abc"}.items()
        yield from {"net1": "e1000,bridge=vmbr1,link_down=1", "net2": "virtio,bridge=vmbr0,queues=4,mtu=1"}.items()
        yield from {"cpu": "host,flags=+aes;-pcid", "agent": "1,fstrim_cloned_disks=1", "onboot": 1}.items()
        yield from {
            "startup": "order=2,up=30",
            "boot": "order=net0;scsi0",
            "hotplug": "disk,network,usb,memory",
        }.items()
    if n % 4 == 0:
        yield from {"ide2": "shared:cloudinit", "ciuser": "admin", "cipassword": "geheim", "ciupgrade": 0}.items()
        yield from {"ipconfig0": "ip=10.0.0.5/24,gw=10.0.0.1", "nameserver": "1.1.1.1 9.9.9.9"}.items()
        yield (
            "sshkeys",
            "ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5%20me%40home" + ("%0Assh-rsa%20AAAAB3%20you" if n % 8 else ""),
        )
    if n % 7 == 3:
        yield from {"bios": "ovmf", "efidisk0": "local-lvm:1,efitype=4m,pre-enrolled-keys=1", "machine": "q35"}.items()
        yield from {"tpmstate0": "local-lvm:1,version=v2.0", "vga": "virtio,memory=64", "numa": 1}.items()
        yield from {"ide0": "none,media=cdrom", "serial0": "socket", "rng0": "source=/dev/urandom"}.items()
    if n % 11 == 5:
        yield from {"protection": 1, "keyboard": "de", "localtime": 1, "args": "-device 'foo,bar=\"x: y\"'"}.items()


def _lxc(n: int) -> Iterator[tuple[str, object]]:
    yield from {"cores": n % 4 + 1, "memory": 256 * (n % 4 + 1), "swap": 512, "unprivileged": n % 2}.items()
    yield from {"ostype": "debian", "arch": "amd64", "rootfs": f"local-lvm:{n % 3 + 2}"}.items()
    yield "net0", f"name=eth0,bridge=vmbr0,hwaddr=BC:24:11:01:{n:02X}:00,ip=dhcp,type=veth"
    if n % 2:
        yield from {"net1": "name=eth1,bridge=vmbr1,ip=10.1.0.9/24,gw=10.1.0.1,tag=7,firewall=1"}.items()
        yield from {"mp0": "local-lvm:3,mp=/srv/data,backup=1", "features": "nesting=1,keyctl=1"}.items()
        yield from {"nameserver": "1.1.1.1", "searchdomain": "example.org", "onboot": 1, "startup": "order=1"}.items()
